"""`tutelage serve [NAME=]RUN …`: models over HTTP, as OpenAI clients expect them."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging

from .keys import key_from
from .output import only_json_on_stdout, print_result
from .talkers import find_policy, open_talker

if TYPE_CHECKING:
    from tutelage.serve.served import Speaker


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]RUN...")
@click.option("--reward", metavar="[NAME=]RUN", help="A reward model, for /score.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen; one that others can reach needs --behind-tls and --api-key-env.")
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True, help="0 takes a free one.")
@click.option("--behind-tls", metavar="URL", help="How clients reach it through a proxy that speaks TLS.")
@click.option("--api-key-env", metavar="VARIABLE", help="Environment variable with the key that clients must send.")
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True, help="Longest answer.")
@click.option("--max-batch", type=click.IntRange(8), default=16, show_default=True, help="Answers written at once, of each model.")
@click.option("--max-waiting", type=click.IntRange(1), default=64, show_default=True, help="Requests that may wait; more are sent away.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where tensors live, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, once it answers, and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
def serve(models: tuple[str, ...], reward: str | None, host: str, port: int, behind_tls: str | None, api_key_env: str | None,
          max_tokens: int, max_batch: int, max_waiting: int, device: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Serve models to OpenAI clients: /v1/chat/completions, /v1/models, and /score by a reward model.

    RUN is what `tutelage chat` takes: a model folder, a checkpoint, a run, or a folder of runs. A model goes by the folder's name, or by
    the NAME before it. Ctrl-C or SIGTERM ends the server after the answers that have begun.
    """
    setup_logging(1 if verbose else -1 if quiet else 0)
    named = [_named(model) for model in models]
    judge_named = _named(reward) if reward else None
    names = [name for name, _ in (*named, *([judge_named] if judge_named else []))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two models are called {twice[0]}", hint="give one of them another name: NAME=RUN")
    key = key_from(api_key_env)
    with only_json_on_stdout(as_json):
        from tutelage.serve.guard import Door
        from tutelage.serve.served import open_judge
        from tutelage.serve.server import serve as serve_models
        from tutelage.web.listen import listen

        door = Door(host, port, behind_tls, key)
        listener = listen(host, port)
        door = replace(door, port=listener.getsockname()[1])
        speakers = [_open_speaker(name, path, device) for name, path in named]
        judge = open_judge(*judge_named, device) if judge_named else None

    def ready() -> None:
        print_result(answer, as_json)
        sys.stdout.flush()

    answer = {"url": door.url, "models": [name for name, _ in named], "reward": judge_named and judge_named[0]}
    serve_models(speakers, judge, door, listener, max_rows=max_batch, max_waiting=max_waiting, max_tokens=max_tokens, ready=ready)


def _open_speaker(name: str, path: Path, device: str) -> Speaker:
    from tutelage.rollout import InProcessEngine
    from tutelage.serve.served import Speaker, identify

    talker = open_talker(find_policy(path), device)
    engine = InProcessEngine(talker.policy, talker.tokenizer.pad_token_id)
    return Speaker(identify(name, talker.folder, "policy"), engine, talker.tokenizer, talker.base_model)


def _named(given: str) -> tuple[str, Path]:
    """NAME=RUN, or RUN under its folder's name. A folder that exists is that folder, whatever its name holds."""
    name, equals, path = given.partition("=")
    if not equals or Path(given).exists():
        name, path = Path(given).resolve().name, given
    if not re.fullmatch(r"[\w.-]{1,100}", name, re.ASCII):
        raise ConfigError(f"{name!r} is no name for a model", hint="give it one of letters, digits, and . _ -, such as ppo=RUN")
    return name, Path(path)
