"""`tutelage chat RUN`: talk with a model in the terminal, answers shown as they are drawn."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import click

from tutelage.base.config import MAX_SEED
from tutelage.base.errors import ArtifactError, ConfigError, DataError, did_you_mean
from tutelage.base.files import read_json_object
from tutelage.base.log import get_logger, setup_logging, visible
from tutelage.base.records import Message

from .output import only_json_on_stdout, print_result

if TYPE_CHECKING:
    from tutelage.rollout import Sampling

log = get_logger()

COMMANDS = {"/reset": "forget the conversation", "/help": "show this list", "/quit": "leave (so does Ctrl-D)"}
POLICY_VERBS = ("ppo", "sft", "pretrain")
"""Stages that leave a policy, the most finished first."""


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--temperature", type=click.FloatRange(0), default=0.7, show_default=True,
              help="Divides the logits; 0 takes the likeliest token, 1 is how PPO trained.")
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True, help="Longest answer.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True,
              help="The same seed and questions give the same answers.")
@click.option("--prompt", metavar="TEXT", help="Answer this once and leave.")
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where tensors live, as torch names it.")
@click.option("--json", "as_json", is_flag=True, help="With --prompt: one JSON object on stdout and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="More log, and a traceback with errors.")
def chat(run: str, temperature: float, max_tokens: int, seed: int, prompt: str | None, device: str, as_json: bool, quiet: bool,
         verbose: bool) -> None:
    """Talk with the model in RUN: a model folder, a checkpoint, a run directory, or a folder of runs such as runs/demo (its last policy).

    Reads lines from stdin when that is not a terminal. Ctrl-C stops an answer, Ctrl-D leaves; /help lists commands.
    """
    setup_logging(1 if verbose else -1 if quiet else 0)
    if as_json and prompt is None:
        raise ConfigError("--json needs --prompt", hint="a conversation is not one JSON object; ask one question: --prompt TEXT --json")
    if prompt is not None and not prompt.strip():
        raise ConfigError("--prompt is empty", hint="leave it out to talk")
    started = time.perf_counter()
    with only_json_on_stdout(as_json):
        folder = find_policy(Path(run))
        conversation = open_conversation(folder, temperature=temperature, max_tokens=max_tokens, seed=seed, device=device)
        if prompt is None:
            talk(conversation)
            return
        answer = conversation.ask(_clean(prompt), (lambda piece: None) if as_json else _show)
    if answer.finish_reason == "interrupted":
        raise KeyboardInterrupt
    if not as_json:
        print()
        return
    print_result({"prompt": prompt, "answer": answer.text, "model": str(folder), "tokens": answer.num_tokens,
                  "finish_reason": answer.finish_reason, "sampling": {"temperature": temperature, "max_tokens": max_tokens, "seed": seed},
                  "seconds": round(time.perf_counter() - started, 3)}, as_json)


@dataclass(frozen=True)
class Answer:
    """What the model said. num_tokens: drawn, EOS included."""

    text: str
    num_tokens: int
    finish_reason: str
    """stop, length (max_tokens or the context is full) or interrupted (Ctrl-C)."""


def talk(conversation: Conversation) -> None:
    """Read questions, show answers, until the input ends or /quit."""
    on_terminal = sys.stdin.isatty()
    if on_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - input() then has line editing and history
        log.info("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves")
    elif isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            line = input("> " if on_terminal else "").strip()
            if line == "/quit":
                return
            if re.fullmatch(r"/[a-z]+", line):
                _command(line, conversation)
            elif line:
                conversation.ask(_clean(line), _show)
                print(flush=True)
        except EOFError:
            if on_terminal:
                print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit leaves)", flush=True)
        except DataError as error:                                  # one question that does not fit is not the end of the talk
            log.warning("%s", error)


def _command(line: str, conversation: Conversation) -> None:
    if line == "/reset":
        conversation.reset()
        log.info("a new conversation")
    elif line == "/help":
        print("\n".join(f"{name:<8}{what}" for name, what in COMMANDS.items()), flush=True)
    else:
        log.warning("no command %s%s; /help lists them", line, did_you_mean(line, COMMANDS))


class Conversation:
    """A model and what has been said. A base model, which knows no turns, continues each text on its own."""

    def __init__(self, policy: Any, tokenizer: Any, sampling: Sampling, *, base_model: bool = False) -> None:
        from tutelage.models.policy import context_length
        from tutelage.rollout import InProcessEngine

        self.tokenizer, self.sampling, self.base_model = tokenizer, sampling, base_model
        self.engine = InProcessEngine(policy, tokenizer.pad_token_id)
        self.context_tokens = context_length(policy)
        self.messages: list[Message] = []
        self.answers = 0
        self._told_trimmed = False

    def reset(self) -> None:
        """Forget what has been said."""
        self.messages, self._told_trimmed = [], False

    def ask(self, question: str, show: Callable[[str], object]) -> Answer:
        """Answer, handing each piece of text to show as soon as it is whole. Ctrl-C ends the answer where it stands.

        Raises: DataError when the question alone fills the context; it is then forgotten.
        """
        self.messages.append(Message("user", question))
        stream, text, num_tokens, finish = TextStream(self.tokenizer), "", 0, "length"
        try:
            with _Interrupt() as interrupt:
                for token in self.engine.stream(self._prompt(question), self.sampling, row_id=self.answers):
                    num_tokens += 1
                    if token in self.sampling.stop_tokens:
                        finish = "stop"
                    else:
                        text = _grown(text, stream.push(token), show)
                    if interrupt.asked:
                        finish = "interrupted"
                        break
                text = _grown(text, stream.flush(), show)
        except (DataError, KeyboardInterrupt):
            self.messages.pop()
            raise
        self.answers += 1                                           # names the next answer's random draws
        self.messages.append(Message("assistant", text.strip()))
        return Answer(text.strip(), num_tokens, finish)

    def _prompt(self, question: str) -> list[int]:
        """Token ids to answer from; whole turns are forgotten from the front until max_tokens, or a quarter of the context, are free."""
        from tutelage.text.chat import encode_prompt

        if self.base_model:
            return encode_prompt(self.tokenizer, question)
        tokens = encode_prompt(self.tokenizer, tuple(self.messages))
        if self.context_tokens is None:
            return tokens
        room = min(self.sampling.max_tokens, self.context_tokens // 4)
        while len(tokens) + room > self.context_tokens and len(self.messages) > 2:
            if not self._told_trimmed:
                log.info("(the context of %d tokens is full: from now on the oldest turns are forgotten)", self.context_tokens)
                self._told_trimmed = True
            del self.messages[:2]
            tokens = encode_prompt(self.tokenizer, tuple(self.messages))
        return tokens


class _Interrupt:
    """While inside, the first Ctrl-C is noted instead of raised: an exception out of nowhere can be lost in a library's clean-up."""

    def __enter__(self) -> Self:
        self.asked = False
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        if self.asked:                                              # a second one: the person means now
            raise KeyboardInterrupt
        self.asked = True


def open_conversation(folder: Path, *, temperature: float, max_tokens: int, seed: int, device: str) -> Conversation:
    """A conversation with the model in a folder. Raises: ArtifactError when it cannot talk, ConfigError on impossible sampling."""
    from tutelage.models.folders import require_policy
    from tutelage.models.policy import open_policy
    from tutelage.rollout import Sampling
    from tutelage.text.chat import stop_tokens
    from tutelage.text.tokenizer import open_tokenizer
    from tutelage.train.run import check_device

    check_device(device)
    require_policy(folder)
    tokenizer = open_tokenizer(folder)
    policy = open_policy(folder, device=device, tokenizer=tokenizer)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, stop_tokens=stop_tokens(tokenizer), seed=seed)
    base_model = any(_knows_no_turns(parent) for parent in folder.parents)
    log.info("%s: %.1f million parameters%s", folder, policy.num_parameters() / 1e6,
             "; a base model, it continues your text" if base_model else "")
    return Conversation(policy, tokenizer, sampling, base_model=base_model)


def _grown(text: str, piece: str, show: Callable[[str], object]) -> str:
    """The answer with its next piece, which is shown; an answer does not begin with a blank."""
    piece = piece if text else piece.lstrip()
    if piece:
        show(piece)
    return text + piece


class TextStream:
    """Token ids to text as they come. Bytes of a character that is not whole yet are held back."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._tokens: list[int] = []                                # from the start of the last piece: some tokenizers join over a seam
        self._shown = 0                                             # how many of them have been handed out

    def push(self, token: int) -> str:
        """The text that became whole with this token, maybe none."""
        self._tokens.append(token)
        piece = self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]
        if not piece or piece.endswith("\ufffd"):                   # half a character decodes to a replacement mark
            return ""
        self._tokens, self._shown = self._tokens[self._shown :], len(self._tokens) - self._shown
        return piece

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character show as replacement marks."""
        rest = self._decode(self._tokens)[len(self._decode(self._tokens[: self._shown])) :]
        self._tokens, self._shown = [], 0
        return rest

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def find_policy(path: Path) -> Path:
    """The model folder a path means: as resolve_model, or of a folder of runs the last policy, of ppo, else sft, else pretrain.

    Raises: ArtifactError when there is none.
    """
    from tutelage.models.policy import resolve_model

    runs = [p for p in path.iterdir() if _verb_of(p)] if path.is_dir() and not _verb_of(path) else []
    for verb in POLICY_VERBS:
        # The stage named as its verb first (ppo before its variant ppo_ptx), then the latest.
        for run in sorted((r for r in runs if _verb_of(r) == verb), key=lambda r: (r.name == verb, r.stat().st_mtime), reverse=True):
            with contextlib.suppress(ArtifactError):                # interrupted before its first checkpoint: the stage before it
                return resolve_model(run)
    if runs:
        raise ArtifactError(f"no policy in {path} yet (found {', '.join(sorted(r.name for r in runs))})",
                            hint="finish its pretrain, sft or ppo stage first")
    return resolve_model(path)


def _verb_of(run: Path) -> str | None:
    """The verb whose run lies in a folder; None when it is no run directory."""
    try:
        return str(read_json_object(run / "lineage.json", hint="")["verb"])
    except (ArtifactError, KeyError):
        return None


def _knows_no_turns(run: Path) -> bool:
    """Whether a folder is a pretraining run that never saw the chat template."""
    if _verb_of(run) != "pretrain":
        return False
    from tutelage.base.config import load_config
    from tutelage.recipes.pretrain import PretrainConfig

    return load_config(PretrainConfig, run / "config.yaml", env={})[0].render != "chat"


def _clean(typed: str) -> str:
    """What was typed as text: bytes that are not UTF-8 become replacement marks, not lone surrogates that no tokenizer takes."""
    return typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace").strip()


def _show(piece: str) -> None:
    """Print at once."""
    encoding = sys.stdout.encoding or "utf-8"
    print(visible(piece).encode(encoding, "replace").decode(encoding), end="", flush=True)
