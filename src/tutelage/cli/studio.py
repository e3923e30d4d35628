"""`tutelage studio`: the web app for people."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging

DEFAULT_PORT = 8600
SHOWN = ("eval.labels_worth=true",)
"""Settings of a training that its page has a place for."""


@click.command()
@click.option("--db", metavar="URL", 
              help="SQLite file or postgresql://…  [default: TUTELAGE_DATABASE_URL, else studio.db in your data folder]")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, 
              help="Address to listen on; another than this machine's own needs --behind-tls.")
@click.option("--behind-tls", "public_url", metavar="URL", help="The https:// address of the proxy through which people come.")
@click.option("--policy", metavar="FOLDER", 
              help="What Retrain begins from: an SFT model or a reward model.  [default with --demo: the demo's]")
@click.option("--train", "overrides", multiple=True, metavar="section.key=value", help="A setting of `tutelage reward` for Retrain.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where Retrain's snapshots/ and trainings/ lie.  [default: your data folder]")
@click.option("--demo", is_flag=True, help="The embedded world, with tasks of each kind and a simulated panel at work.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
def studio(db: str | None, port: int, host: str, public_url: str | None, policy: str | None, overrides: tuple[str, ...], out: Path | None,
           demo: bool, quiet: bool, verbose: bool) -> None:
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
    from tutelage.web.site import Site

    Site(host, port or DEFAULT_PORT, public_url)                      # refused before anything is made
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        site = Site(host, listener.getsockname()[1], public_url)
        if demo:
            from .studio_demo import DEMO_DB, demo_policy, demo_store

            policy, out = policy or demo_policy(), out or DEMO_DB.parent
            store = stack.enter_context(demo_store(db))
        else:
            store = stack.enter_context(Store.open(db))
        link = store.write(lambda conn: accounts.first_admin_invite(conn, now=store.now()))
        trainer = Trainer(policy, out or data_folder(), (*SHOWN, *overrides)) if policy else None
        app = create_studio(store, site, trainer)
        print(f"studio: {site.url}", flush=True)
        if link is not None:
            print(f"you are the first: become the admin at {site.url}/join/{link}\n(works once, within a day)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                                               timeout_graceful_shutdown=5))
        server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises: ConfigError when the port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)                                         # whoever comes before the server is up waits instead of being refused
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}",
                          hint="is a studio running already? --port takes another") from error
    return listener
