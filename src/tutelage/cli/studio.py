"""`tutelage studio`: the web app for people."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging

from .group import Group
from .keys import key_from
from .output import only_json_on_stdout, print_result

DEFAULT_PORT = 8600
SHOWN = ("eval.labels_worth=true",)
"""Settings of a training that its page has a place for."""


@click.group(cls=Group, invoke_without_command=True)
@click.option("--db", metavar="URL", 
              help="SQLite file or postgresql://…  [default: TUTELAGE_DATABASE_URL, else studio.db in your data folder]")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, 
              help="Address to listen on; another than this machine's own needs --behind-tls.")
@click.option("--behind-tls", "public_url", metavar="URL", help="The https:// address of the proxy through which people come.")
@click.option("--models", "models_url", metavar="URL",
              help="The model server that people talk to: http://127.0.0.1:8100/v1 of tutelage serve, or any other of OpenAI's form.")
@click.option("--models-key-env", metavar="VARIABLE", help="Environment variable with the key for that server.")
@click.option("--policy", metavar="FOLDER", 
              help="What Retrain begins from: an SFT model or a reward model.  [default with --demo: the demo's]")
@click.option("--train", "overrides", multiple=True, metavar="section.key=value", help="A setting of `tutelage reward` for Retrain.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where Retrain's snapshots/ and trainings/ lie.  [default: your data folder]")
@click.option("--demo", is_flag=True, help="The embedded world, with tasks of each kind and a simulated panel at work.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
@click.pass_context
def studio(ctx: click.Context, db: str | None, port: int, host: str, public_url: str | None, models_url: str | None,
           models_key_env: str | None, policy: str | None, overrides: tuple[str, ...], out: Path | None, demo: bool, quiet: bool,
           verbose: bool) -> None:
    """Serve the studio: people write prompts and answers and judge them, in their browsers.

    The first start prints a link, good once, that makes you the admin; there you invite others. `tutelage studio backup` copies its
    database meanwhile.
    """
    if ctx.invoked_subcommand is not None:
        _check_given(ctx)
        return
    setup_logging(1 if verbose else -1 if quiet else 0)
    from contextlib import ExitStack

    from tutelage.base.scratch import sweep
    from tutelage.feedback import accounts
    from tutelage.feedback.location import data_folder
    from tutelage.feedback.snapshot import FREEZING
    from tutelage.feedback.store import Store
    from tutelage.studio.app import create_studio
    from tutelage.studio.imports import sweep_uploads
    from tutelage.studio.training import Trainer
    from tutelage.web.listen import listen
    from tutelage.web.outbound import Server, hang_up
    from tutelage.web.server import serve
    from tutelage.web.site import Site

    key = key_from(models_key_env)
    if key is not None and models_url is None:
        raise ConfigError("--models-key-env without --models", hint="name the server that the key is for")
    models_at = Server(models_url.rstrip("/"), by_operator=True, key=key) if models_url else None
    Site(host, port or DEFAULT_PORT, public_url)                      # refused before anything is made
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        site = Site(host, listener.getsockname()[1], public_url)
        settings: tuple[str, ...] = SHOWN
        if demo:
            from .studio_demo import DEMO_DB, DEMO_TRAIN, demo_policy, demo_store

            settings += DEMO_TRAIN
            policy, out = policy or demo_policy(), out or DEMO_DB.parent
            store = stack.enter_context(demo_store(db))
        else:
            store = stack.enter_context(Store.open(db))
        link = store.write(lambda conn: accounts.first_admin_invite(conn, now=store.now()))
        sweep_uploads()                                             # what one that was killed left of people's words
        sweep((out or data_folder()) / "snapshots", FREEZING)
        trainer = Trainer(policy, out or data_folder(), (*settings, *overrides)) if policy else None
        app = create_studio(store, site, trainer=trainer, models_at=models_at)
        print(f"studio: {site.url}", flush=True)
        if link is not None:
            print(f"you are the first: become the admin at {site.url}/join/{link}\n(works once, within a day)", flush=True)
        try:
            serve(app, listener)
        finally:
            hang_up()


def _check_given(ctx: click.Context) -> None:
    """Raises: UsageError where an option before the subcommand says nothing to it."""
    unused = [max(option.opts, key=len) for option in ctx.command.params if option.name not in ("db", "demo")
              and ctx.get_parameter_source(option.name or "") == ParameterSource.COMMANDLINE]
    if unused:
        raise click.UsageError(f"{' '.join(unused)} before {ctx.invoked_subcommand}: it takes --db and --demo there", ctx)


@studio.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--db", metavar="URL", help="The SQLite file to copy.  [default: as for tutelage studio, or studio --demo]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
@click.pass_context
def backup(ctx: click.Context, file: Path, db: str | None, as_json: bool, verbose: bool) -> None:
    """Copy the studio's database to FILE, a new one, while it is in use; the copy is checked. How to restore: docs/store.md."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.store import Store

        before = ctx.parent.params if ctx.parent else {}
        at = db or before.get("db")
        if at is None and before.get("demo"):
            from .studio_demo import DEMO_DB as at
        with Store.open(at, make=False) as store:
            made = store.backup(file)
    print_result({"backup": str(made), "bytes": made.stat().st_size}, as_json)
