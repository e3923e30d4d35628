"""HTML by hand: escaping, tables, figures with their numbers, and the page around the sections. No script, no outside host."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from tutelage.evals.svg import Figure, chart_style

NOT_RUN = '<p class="pending">not run yet</p>'
# Even a hole in the escaping could then load or run nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def e(value: Any) -> str:
    """Text safe in HTML: escaped, with control characters made visible and unpaired surrogates replaced."""
    return html.escape(visible(str(value)))


def visible(text: str) -> str:
    """Control characters as their pictures (␀ …), except tab and newline; unpaired surrogates as U+FFFD."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\t\n" else "␡" if 0x7F <= ord(c) <= 0x9F else c for c in text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", kind: str = "") -> str:
    """A table whose first column heads its rows; cells are escaped. Scrolls sideways where it must."""
    if not rows:
        return NOT_RUN
    head = "".join(f'<th scope="col">{e(column)}</th>' for column in columns)
    lines = [f'<th scope="row">{e(row[0])}</th>' + "".join(f"<td>{e(cell)}</td>" for cell in row[1:]) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    title = f"<caption>{e(caption)}</caption>" if caption else ""
    return (f'<div class="scroll" tabindex="0"><table class="{kind}">{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def section(name: str, title: str, lead: str, *parts: str) -> str:
    """A section; `lead` is one plain sentence, `parts` are HTML."""
    body = "".join(parts) or NOT_RUN
    return f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{e(title)}</h2><p class="lead">{e(lead)}</p>{body}</section>'


def grid(*parts: str) -> str:
    return f'<div class="grid">{"".join(parts)}</div>' if parts else ""


@dataclass
class Page:
    """Numbers its figures, so that ids are unique."""

    figures: int = 0
    sections: list[str] = field(default_factory=list)

    def figure(self, figure: Figure, caption: str = "", *, wide: bool = False) -> str:
        """A chart under its title, with how to read it and the numbers behind it."""
        self.figures += 1
        note = f"<p>{e(caption)}</p>" if caption else ""
        numbers = table(figure.columns, figure.rows, kind="small")
        return (f'<figure class="{"card wide" if wide else "card"}"><figcaption><h3>{e(figure.title)}</h3>{note}</figcaption>'
                f"{figure.inline(f'f{self.figures}')}<details><summary>Numbers</summary>{numbers}</details></figure>")

    def render(self, *, title: str, header: str, nav: Sequence[tuple[str, str]]) -> str:
        """The whole document. header: HTML. nav: (section id, label)."""
        style = files("tutelage.evals").joinpath("report.css").read_text(encoding="utf-8")
        links = "".join(f'<li><a href="#{e(name)}">{e(label)}</a></li>' for name, label in nav)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{e(title)}</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
            f'<style>{style}{chart_style()}</style></head>\n<body><a class="skip" href="#main">Skip to the results</a>'
            f'<header>{header}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">'
            + "\n".join(self.sections) + "</main></body></html>\n")
