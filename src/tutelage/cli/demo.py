"""`tutelage demo`: the embedded world."""

from __future__ import annotations

import click

from .group import Group
from .output import print_result


@click.group(cls=Group)
def demo() -> None:
    """The embedded world."""


@demo.command()
@click.argument("prompt")
@click.argument("answer")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def gold(prompt: str, answer: str, as_json: bool) -> None:
    """What the gold preference, 0 to 1, says of ANSWER to PROMPT, and why."""
    from tutelage.demo.gold import explain

    print_result(explain(prompt, answer), as_json)
