"""What models and people wrote, made safe to look at: Markdown without a way out.

Raw HTML stays text. Pictures and links become text that shows where they would lead; nothing is fetched and nothing can be clicked.
Characters that nobody sees, or that turn the direction of the text around them, are shown as what they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

MAX_CHARS = 20_000
"""Of a text of many on a page; beyond it the text is cut, and the whole of it is one link away as plain text."""
_TAGS = set("p br em strong s code pre ul ol li blockquote hr span table thead tbody tr th td".split())
_CLASSES = {"span": {"url"}, "p": {"md1", "md2", "md3"}}
_INVISIBLE = re.compile("[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
                        "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e01ef]")
_JOINERS = "\u200c\u200d"
_MARKS = "\u200e\u200f"


def render(text: str, most: int | None = MAX_CHARS) -> Markup:
    """Safe HTML of Markdown text, at most so many characters of it; None: the whole."""
    html = _markdown().render(_whole(text[:most]))
    return Markup(_visible(nh3.clean(html, tags=_TAGS, attributes={"ol": {"start"}}, allowed_classes=_CLASSES, link_rel=None)))


def plain(text: str) -> Markup:
    """Safe HTML of text as it stands, whole."""
    return Markup(_visible(escape(_whole(text))))


def _whole(text: str) -> str:
    """Half a surrogate pair, which no page can carry, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


@cache
def _markdown() -> MarkdownIt:
    # "js-default" is CommonMark with tables and strikethrough. Nesting is bounded: `>` * 10,000 would be as many elements.
    md = MarkdownIt("js-default", {"html": False, "linkify": False, "maxNesting": 20})
    md.add_render_rule("image", _image)
    md.add_render_rule("link_open", lambda self, tokens, i, options, env: "")
    md.add_render_rule("link_close", _link_close)
    md.add_render_rule("heading_open", lambda self, tokens, i, options, env: f'<p class="md{min(3, int(tokens[i].tag[1]))}">')
    md.add_render_rule("heading_close", lambda self, tokens, i, options, env: "</p>\n")
    md.add_render_rule("fence", _code)
    md.add_render_rule("code_block", _code)
    setattr(md, "validateLink", lambda url: True)  # noqa: B010 - links are never followed, so every one is shown, javascript: too
    return md


def _image(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    return f'[{escape(tokens[i].content)}]<span class="url">({escape(str(tokens[i].attrGet("src")))})</span>'


def _link_close(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    """The address of the link that ends here, after its words; not again where the words are the address."""
    depth, at = 0, i
    while at >= 0:
        depth += tokens[at].nesting if tokens[at].type in ("link_open", "link_close") else 0
        if depth == 0:
            break
        at -= 1
    href = str(tokens[at].attrGet("href"))
    words = "".join(token.content for token in tokens[at + 1 : i])
    return "" if href.removeprefix("mailto:") == words else f'<span class="url"> ({escape(href)})</span>'


def _code(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    return f"<pre><code>{escape(tokens[i].content)}</code></pre>\n"


def _visible(html: str) -> str:
    """Every invisible character in text becomes a small label with its code point. Attributes hold no text of anybody's."""
    return _INVISIBLE.sub(lambda found: _label(html, found), html)


def _label(html: str, found: re.Match[str]) -> str:
    char = found[0]
    before, after = html[found.start() - 1 : found.start()], html[found.end() : found.end() + 1]
    # Joiners belong to the spelling of Persian, Hindi and emoji, direction marks to Hebrew and Arabic; elsewhere they hide something.
    joins = char in _JOINERS and before > "\u02af" and after > "\u02af"
    if joins or (char in _MARKS and (_right_to_left(before) or _right_to_left(after))):
        return char
    return f'<span class="ctl">U+{ord(char):04X}</span>'


def _right_to_left(char: str) -> bool:
    return bool(char) and unicodedata.bidirectional(char) in ("R", "AL")
