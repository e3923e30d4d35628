"""Layouts of the tools that collect judgements, each in a file of its own."""

from __future__ import annotations

from tutelage.text.arena import ARENA
from tutelage.text.argilla import ARGILLA
from tutelage.text.label_studio import LABEL_STUDIO
from tutelage.text.layouts import Layout
from tutelage.text.long import LONG
from tutelage.text.oasst import OASST

PLATFORMS: dict[str, Layout] = {**OASST, **ARENA, **LABEL_STUDIO, **ARGILLA, "long": LONG}
