"""report.json and one self-contained index.html, from whatever is known so far.

The input of `write_report`, all parts optional: {"title", "seconds": {stage: s}, "stages": [planned stage], "models": {name: {"path",
"gold", "proxy", "kl", "length", "distinct_1", "distinct_2", "bits_per_byte", "perplexity",
"dialogue_bits_per_byte", "win_rate_vs_sft"}}, "reward_model": {...}, "frontier":
[{"step", "kl", "proxy", "gold"}], "curves": {stage: [{"step", metric: value}]}, "samples": [{"prompt", "kind", "answers": {model: text},
"gold": {model: x}}], "distributions": {"gold": {model: [x]}}, "provenance": {...}}. Wherever a number is expected an `Estimate` does too,
and a number's interval may stand beside it under its name with "_ci". Other keys are kept in report.json.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base.files import atomic_write_text
from tutelage.evals import sections
from tutelage.evals.headline import findings, headline, missing, tiles
from tutelage.evals.page import Page, e, visible
from tutelage.evals.svg import write_svg

_MAPS = ("seconds", "models", "reward_model", "curves", "distributions", "provenance")
_LISTS = ("stages", "frontier", "samples")
NAV = (("models", "Who answers best"), ("samples", "What they say"), ("frontier", "What it cost"), ("reward", "Reward model"),
       ("curves", "Training"), ("made", "How it was made"))


def write_report(folder: Path, report: Mapping[str, Any]) -> Path:
    """Write report.json, then index.html beside it, each whole or not at all. Returns the path of index.html.

    Partial input gives a partial report that says so. What is not finite is null in JSON and "undefined" on the page.
    """
    clean = complete(report)
    folder = Path(folder)
    atomic_write_text(folder / "report.json", json.dumps(clean, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    atomic_write_text(folder / "index.html", render(clean))
    return folder / "index.html"


def write_picture(path: Path, report: Mapping[str, Any]) -> bool:
    """The report in one .svg for a README: models by gold, and gold along √KL. False (and no file) before any model is measured."""
    clean = complete(report)
    figures = [f for f in (sections.models_figure(clean), sections.frontier_figure(clean, "gold")) if f is not None]
    if figures:
        write_svg(path, figures, title=clean["title"], desc=headline(clean))
    return bool(figures)


def complete(report: Mapping[str, Any]) -> dict[str, Any]:
    """Strict JSON values, with every top-level part present and of its type, and bare numbers where the schema has them."""
    clean: dict[str, Any] = {"title": "Report"} | strict(report)
    for names, kind in ((_MAPS, dict), (_LISTS, list)):
        for name in names:
            if not isinstance(clean.get(name), kind):
                clean[name] = kind()
    clean["seconds"] = {stage: s for stage, s in clean["seconds"].items() if isinstance(s, (int, float))}
    for row in [*clean["models"].values(), *clean["frontier"]]:
        _bare(row, "gold", "proxy", "kl", "length", "bits_per_byte")
    panel = clean["reward_model"]
    _bare(panel, "accuracy_vs_gold", "bayes_ceiling")
    clean["headline"] = headline(clean)
    return clean


def _bare(row: dict[str, Any], *names: str) -> None:
    """Where an estimate stands for a number, leave its mean there and the whole under <name>_ci."""
    for name in names:
        if isinstance(row.get(name), dict):
            row[f"{name}_ci"] = row[name]
            row[name] = row[name].get("mean")


def strict(value: Any) -> Any:
    """Plain JSON: numpy and dataclasses unwrapped, keys as text, nan and infinity as None, text that UTF-8 can hold."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return strict(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: strict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(strict(k)): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [strict(v) for v in value]
    return visible(str(value))


def render(report: Mapping[str, Any]) -> str:
    """The page. report: as `complete` returns it."""
    page = Page()
    page.sections = [
        sections.models_section(page, report), sections.samples_section(page, report), sections.frontier_section(page, report),
        sections.reward_section(page, report), sections.curves_section(page, report), sections.made_section(page, report)]
    return page.render(title=str(report["title"]), header=_header(report), nav=NAV)


def _header(report: Mapping[str, Any]) -> str:
    notes = findings(report)
    if pending := missing(report):
        notes.append(f"This report is partial; not run yet: {', '.join(pending)}.")
    listed = f'<ul class="findings">{"".join(f"<li>{e(note)}</li>" for note in notes)}</ul>' if notes else ""
    figures = "".join(f'<div><dt>{e(t.label)}</dt><dd class="value">{e(t.value)}</dd><dd class="note">{e(t.note)}</dd></div>'
                      for t in tiles(report))
    return (f'<p class="eyebrow">{e(report["title"])}</p><h1>{e(report["headline"])}</h1>{listed}'
            + (f'<dl class="tiles">{figures}</dl>' if figures else ""))
