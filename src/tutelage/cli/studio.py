"""`tutelage studio`: the web app for people."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging

from .keys import key_from

DEFAULT_PORT = 8600
KEEP_ALIVE_SECONDS = 75
"""A person reads for longer than the 5 seconds after which uvicorn would close the connection."""
SHOWN = ("eval.labels_worth=true",)
"""Settings of a training that its page has a place for."""


@click.command()
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
def studio(db: str | None, port: int, host: str, public_url: str | None, models_url: str | None, models_key_env: str | None,
           policy: str | None, overrides: tuple[str, ...], out: Path | None, demo: bool, quiet: bool, verbose: bool) -> None:
    """Serve the studio: people write prompts and answers and judge them, in their browsers.

    The first start prints a link, good once, that makes you the admin; there you invite others.
    """
    setup_logging(1 if verbose else -1 if quiet else 0)
    from contextlib import ExitStack

    import uvicorn

    from tutelage.feedback import accounts
    from tutelage.feedback.location import data_folder
    from tutelage.feedback.store import Store
    from tutelage.studio.app import create_studio
    from tutelage.studio.training import Trainer
    from tutelage.web.listen import listen
    from tutelage.web.outbound import Server, hang_up
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
        trainer = Trainer(policy, out or data_folder(), (*settings, *overrides)) if policy else None
        app = create_studio(store, site, trainer=trainer, models_at=models_at)
        print(f"studio: {site.url}", flush=True)
        if link is not None:
            print(f"you are the first: become the admin at {site.url}/join/{link}\n(works once, within a day)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                                               timeout_graceful_shutdown=5, timeout_keep_alive=KEEP_ALIVE_SECONDS))
        try:
            server.run(sockets=[listener])
        finally:
            hang_up()
