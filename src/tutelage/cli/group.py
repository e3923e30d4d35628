"""A click group whose unknown verbs name the nearest known one."""

from __future__ import annotations

import click

from tutelage.base.errors import did_you_mean


class Group(click.Group):
    """click.Group, but an unknown verb is answered in this project's words."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in (known := self.list_commands(ctx)):
            raise click.UsageError(f"no verb {args[0]!r}{did_you_mean(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)
