"""What models wrote is shown, and can do nothing: no script, no request, no click, no hidden character, no turned line."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.web.markdown import MAX_CHARS, plain, render

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<iframe src='//evil.example'></iframe>",
    "![pixel](https://evil.example/p.png?x=1)", "[click](javascript:alert(1))", "[click](https://evil.example 'title')",
    "<https://evil.example>", "[a]: https://evil.example\n\n[a]", "![a][b]\n\n[b]: data:text/html,<script>alert(1)</script>",
    "`<b onclick=x>`", "```html\n<script>\n```", "<div hx-get='/people' hx-trigger='load'>x</div>",
    "| a |\n|---|\n| <img src=//e.example> |",
    "<style>*{display:none}</style>", "<base href=//e>", "# <a href=x>h</a>", "&lt;script&gt;", "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "<form action=//evil.example><input name=csrf></form>", "<!--", "<math><mtext></p><script>", "[![a](//e/x.png)](//e)", "\x00<script>",
    "<a data-key='s'>x</a>", '[x](x "\\"onmouseover=alert(1)")',
]
ALLOWED = set("p br em strong s code pre ul ol li blockquote hr span table thead tbody tr th td".split())


class Seen(HTMLParser):
    """Every element and attribute that a browser would make of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(str(html))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def harmless(html: str) -> None:
    seen = Seen(html)
    assert set(seen.tags) <= ALLOWED
    assert {name for name, _ in seen.attributes} <= {"class", "start"}
    assert {value for name, value in seen.attributes if name == "class"} <= {"url", "md1", "md2", "md3", "ctl"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_becomes_text(text):
    harmless(render(text))


PIECES = [*HOSTILE, "\n", "> ", "* ", "**", "`", "\u202e", "&#x202e;"]


@given(st.text(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_no_text_at_all_makes_an_element_that_does_something(text):
    harmless(render(text))
    harmless(plain(text))


def test_a_picture_and_a_link_show_where_they_would_lead():
    seen = Seen(render("![a cat](https://evil.example/p.png) and [this](javascript:alert(1)) and <https://a.example/>"))
    assert seen.text.strip() == "[a cat](https://evil.example/p.png) and this (javascript:alert(1)) and https://a.example/"


def test_ordinary_markdown_keeps_its_form():
    html = render("# Tea\n\n1. **Boil** water\n2. Wait\n\n> so\n\n```python\nx < 1\n```\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n")
    tags = "ol li strong li blockquote pre code table thead tr th th tbody tr td td s"
    assert [tag for tag in Seen(html).tags if tag != "p"] == tags.split()
    assert "x &lt; 1" in html and '<p class="md1">Tea</p>' in html


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff", "\U000e0041", "\u2028\u200e"[1], "\x1b", "\u3164"])
def test_a_character_that_nobody_sees_is_shown(char):
    for html in (render(f"abc{char}def"), plain(f"abc{char}def")):
        assert char not in html and f"U+{ord(char):04X}" in Seen(html).text


def test_an_entity_cannot_smuggle_one_in():
    assert "\u202e" not in render("a&#x202e;b") and "U+202E" in render("a&#x202e;b")


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "👩\u200d💻", "שלום\u200f!", "emoji ❤\ufe0f"])
def test_characters_that_belong_to_a_writing_stay(text):
    assert "U+" not in render(text) and text.replace("!", "") in render(text)


def test_half_a_surrogate_pair_is_not_an_error():
    render("a\ud800b").encode()


@pytest.mark.parametrize("unit", ["[", "*", "> ", "`", "![](", "<", "_a ", "- ", "|", "&", "\\", "[a](", "**a ", "~", "1. ", "\n> "])
def test_200_kb_of_anything_is_rendered_soon_and_cut(unit):
    began = time.process_time()
    html = render((unit * 200_000)[:200_000])
    assert time.process_time() - began < 2.0, "of CPU time"
    harmless(html)
    assert len(Seen(html).text) <= 4 * MAX_CHARS and len(html) < 60 * MAX_CHARS


def test_plain_text_keeps_every_line():
    assert re.sub(r"\s", "", plain("a <b>\n c")) == "a&lt;b&gt;c"
