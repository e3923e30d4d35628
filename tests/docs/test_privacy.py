"""What the page on privacy says of the studio's pages."""

from __future__ import annotations

import re
from pathlib import Path

import tutelage.studio

TEMPLATES = Path(tutelage.studio.__file__).parent / "templates"
PRIVACY = Path(__file__).parents[2] / "docs" / "privacy.md"


def test_every_search_that_puts_words_into_an_address_is_named_as_what_no_erasure_reaches():
    found = set()                                                   # a batch has a name that leads gave it, not a person's words
    for template in TEMPLATES.glob("*.html"):
        forms = re.findall(r'<form method="get" action="([^"]+)"(.*?)</form>', template.read_text(encoding="utf-8"), re.DOTALL)
        for action, inside in forms:
            found |= {f"`{action}?{name}=…`" for name in re.findall(r'<input name="(\w+)"', inside) if name != "batch"}
    assert found == set(re.findall(r"`/[^`]+\?\w+=…`", PRIVACY.read_text(encoding="utf-8")))
