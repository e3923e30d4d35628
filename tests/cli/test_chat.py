"""`tutelage chat`: what a person types and sees, on a tiny untrained model."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tutelage.base.errors import ArtifactError, DataError
from tutelage.base.records import Message
from tutelage.cli.chat import open_conversation
from tutelage.cli.main import main
from tutelage.cli.talkers import find_policy
from tutelage.models import new_policy, save_policy
from tutelage.rollout import InProcessEngine
from tutelage.text.chat import encode_prompt
from tutelage.text.stream import TextStream
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer

CONTEXT = 96


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model folder of a tiny random policy whose vocabulary is bytes and little else."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = open_tokenizer(train_tokenizer(["How do you do? Very well, thank you."], vocab_size=270, out_dir=folder / "tokenizer"))
    save_policy(new_policy("nano", tokenizer, context_tokens=CONTEXT, seed=0), tokenizer, folder / "model")
    return folder / "model"


def talk_to(model: Path, **settings):
    return open_conversation(model, **({"temperature": 1.0, "max_tokens": 12, "seed": 0, "device": "cpu"} | settings))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tutelage.cli.main", "chat", *arguments]


def make_run(folder: Path, verb: str, model: Path | None) -> None:
    folder.mkdir(parents=True)
    (folder / "lineage.json").write_text(json.dumps({"verb": verb}))
    if model:
        (folder / "ckpt" / "step-000001").mkdir(parents=True)
        (folder / "ckpt" / "step-000001" / "model").symlink_to(model)
        (folder / "latest").write_text("step-000001\n")


def test_what_is_shown_piece_by_piece_is_the_engines_whole_answer(model):
    conversation, pieces = talk_to(model, max_tokens=40), []
    answer = conversation.ask("How do you do?", pieces.append)
    tokens = encode_prompt(conversation.tokenizer, (Message("user", "How do you do?"),))
    (whole,) = conversation.engine.generate([tokens], conversation.sampling)
    assert answer.text == conversation.tokenizer.decode(list(whole.tokens), skip_special_tokens=True).strip() == "".join(pieces).strip()
    assert (answer.num_tokens, answer.finish_reason) == (len(whole.tokens), whole.finish_reason)


@pytest.mark.parametrize("text", ["naïve café", "漢字 and 🙂🙃", "e\u0301 👩‍👧", "plain"])
def test_bytes_of_a_character_are_held_back_until_it_is_whole(model, text):
    tokenizer = open_tokenizer(model)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer)
    pieces = [stream.push(t) for t in tokens]
    assert "".join(pieces) == text and "\ufffd" not in "".join(pieces)
    assert len([p for p in pieces if p]) == len(text) or text == "plain"        # one character at a time, as the vocabulary is bytes


def test_half_a_character_at_the_end_shows_as_a_replacement_mark(model):
    tokenizer = open_tokenizer(model)
    stream = TextStream(tokenizer)
    shown = "".join(stream.push(t) for t in tokenizer("ab漢", add_special_tokens=False)["input_ids"][:-1])
    assert (shown, set(stream.flush())) == ("ab", {"\ufffd"})


def test_the_model_is_asked_with_the_whole_conversation(model, monkeypatch):
    asked = []
    real = InProcessEngine.stream
    monkeypatch.setattr(InProcessEngine, "stream", lambda self, prompt, *a, **k: asked.append(prompt) or real(self, prompt, *a, **k))
    conversation = talk_to(model)
    first = conversation.ask("One?", len).text
    conversation.ask("Two?", len)
    conversation.reset()
    conversation.ask("Three?", len)
    tokenizer = conversation.tokenizer
    said = (Message("user", "One?"), Message("assistant", first), Message("user", "Two?"))
    assert asked == [encode_prompt(tokenizer, messages) for messages in (said[:1], said, (Message("user", "Three?"),))]


def test_a_full_context_forgets_whole_turns_from_the_front_and_says_so_once(model, caplog):
    conversation = talk_to(model)
    with caplog.at_level("INFO", logger="tutelage"):
        for number in range(12):
            conversation.ask(f"Question number {number}?", len)
            assert [m.role for m in conversation.messages] == ["user", "assistant"] * (len(conversation.messages) // 2)
    assert conversation.messages[-2].content == "Question number 11?" and conversation.messages[0].content != "Question number 0?"
    assert sum("oldest turns are forgotten" in record.message for record in caplog.records) == 1


def test_asked_again_the_model_answers_anew_and_a_session_repeats(model):
    def session() -> list[str]:
        conversation, texts = talk_to(model), []
        for _ in range(2):
            conversation.reset()
            texts.append(conversation.ask("How do you do?", len).text)
        return texts

    first, second = session()
    assert first != second and session() == [first, second]


def test_a_question_longer_than_the_context_is_refused_and_forgotten(model):
    conversation = talk_to(model)
    with pytest.raises(DataError, match=f"context of {CONTEXT} leaves no room"):
        conversation.ask("why " * CONTEXT, len)
    assert conversation.messages == [] and conversation.ask("Why?", len).num_tokens


def test_ctrl_c_keeps_what_was_said_and_the_talk_goes_on(model, monkeypatch):
    conversation = talk_to(model)
    letters = conversation.tokenizer("abcdef", add_special_tokens=False)["input_ids"]

    def stopped(self, *_, **__):
        yield from letters[:2]
        os.kill(os.getpid(), signal.SIGINT)
        yield from letters[2:]

    with monkeypatch.context() as patch:
        patch.setattr(InProcessEngine, "stream", stopped)
        answer = conversation.ask("Go on.", len)
    assert (answer.text, answer.num_tokens, answer.finish_reason) == ("abc", 3, "interrupted")
    assert conversation.messages == [Message("user", "Go on."), Message("assistant", "abc")]
    assert conversation.ask("And?", len).finish_reason != "interrupted"


def test_a_pipelines_folder_means_its_last_policy(model, tmp_path):
    demo = tmp_path / "demo"
    for name, verb in (("pretrain", "pretrain"), ("sft", "sft"), ("reward", "reward"), ("ppo", "ppo"), ("ppo_ptx", "ppo")):
        make_run(demo / name, verb, model)
        os.utime(demo / name, (1, 1 + len(list(demo.iterdir()))))       # each later than the one before
    assert find_policy(demo) == demo / "ppo" / "ckpt" / "step-000001" / "model"
    (demo / "ppo" / "latest").unlink()                              # interrupted before its first checkpoint
    (demo / "ppo_ptx" / "latest").unlink()
    assert find_policy(demo).parts[-4] == "sft"
    assert find_policy(demo / "pretrain").parts[-4] == "pretrain"
    (demo / "sft" / "latest").unlink()
    assert find_policy(demo).parts[-4] == "pretrain"
    (demo / "pretrain" / "latest").unlink()
    with pytest.raises(ArtifactError, match="no policy in .* yet .found ppo, ppo_ptx, pretrain, reward, sft"):
        find_policy(demo)
    with pytest.raises(ArtifactError, match="no model at"):
        find_policy(tmp_path / "nowhere")


def test_a_base_model_continues_the_text_it_is_given(model, tmp_path, monkeypatch):
    run = tmp_path / "pretrain"
    make_run(run, "pretrain", model)
    (run / "config.yaml").write_text("data: {files: [corpus.txt]}\n")
    asked = []
    monkeypatch.setattr(InProcessEngine, "stream", lambda self, prompt, *a, **k: iter(asked.append(prompt) or ()))
    conversation = talk_to(find_policy(run))
    conversation.ask("Once upon", len)
    conversation.ask("a time", len)
    assert asked == [encode_prompt(conversation.tokenizer, "Once upon"), encode_prompt(conversation.tokenizer, "a time")]
    (run / "config.yaml").write_text("data: {files: [corpus.txt]}\nrender: chat\n")        # it has seen turns
    assert not talk_to(find_policy(run)).base_model


def test_a_reward_model_cannot_talk(model, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForSequenceClassification"]}))
    with pytest.raises(ArtifactError, match="is a reward model"):
        talk_to(tmp_path)


def test_one_question_gives_one_answer_also_as_json(model, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["chat", str(model), *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    asked = ("--prompt", "How do you do?", "--max-tokens", "9", "--temperature", "1")
    code, plain = run(*asked)
    answer = json.loads(run(*asked, "--json")[1])
    assert code == 0 and answer["prompt"] == "How do you do?" and answer["model"] == str(model)
    assert answer["tokens"] <= 9 and answer["sampling"] == {"temperature": 1.0, "max_tokens": 9, "seed": 0}
    kept = [c for c in answer["answer"] if c.isprintable() and c != "\ufffd"]
    assert kept == [c for c in plain if c.isprintable() and c != "\ufffd"]
    assert json.loads(run(*asked, "--json", "--seed", "1")[1])["answer"] != answer["answer"]
    assert run("--json")[0] == 2 and run("--prompt", " ")[0] == 2


def test_no_control_character_of_the_model_reaches_the_terminal(capsys):
    from tutelage.cli.chat import _show

    _show("a\x1b[2Jb\x07\x9b\r\n\tc")
    assert capsys.readouterr().out == "a\ufffd[2Jb\ufffd\ufffd\ufffd\n\tc"


def test_lines_of_a_pipe_are_questions(model):
    typed = b"Hello?\n\n\xff\xfe?\n/reset\n/rest\n/quit\nnever read\n"
    done = subprocess.run(command(str(model), "--max-tokens", "5"), input=typed, capture_output=True)
    assert done.returncode == 0
    log = done.stderr.decode()
    assert "million parameters" in log and "a new conversation" in log and "no command /rest (did you mean /reset?)" in log
    assert b"> " not in done.stdout and done.stdout.count(b"\n") >= 2


def on_terminal(terminal: int) -> None:
    """Make a typed Ctrl-C a signal, and one that is heard: a test run started in the background of a shell ignores it, its children too."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_session_on_a_terminal(model, tmp_path):
    # Greedy decoding of a random model runs on until the context is full: with a long one there is an answer to stop.
    shutil.copytree(model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text()) | {"max_position_embeddings": 20_000}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    controller, terminal = pty.openpty()
    process = subprocess.Popen(command(str(tmp_path / "model"), "--temperature", "0", "--max-tokens", "19000"), stdin=terminal,
                               stdout=terminal, stderr=terminal, env=os.environ | {"TERM": "dumb"}, start_new_session=True,
                               preexec_fn=lambda: on_terminal(terminal))
    os.close(terminal)
    seen, at = "", 0

    def until(wanted: str, *, typed: bytes = b"") -> None:
        """Read on until something is seen; what is typed for it is typed again while nothing happens."""
        nonlocal seen, at
        deadline = time.monotonic() + 60
        os.write(controller, typed)
        while wanted not in seen[at:]:
            assert time.monotonic() < deadline, seen
            if select.select([controller], [], [], 1)[0]:
                seen += os.read(controller, 4096).decode("utf-8", "replace")
            else:
                os.write(controller, typed)
        at = seen.index(wanted, at) + len(wanted)

    until("> ")
    os.write(controller, b"/help\n")
    until("forget the conversation")
    until("> ")
    # At the prompt it says how to leave. Python may miss a signal that comes just as the prompt appears.
    until("Ctrl-D or /quit leaves", typed=b"\x03")
    until("> ")
    os.write(controller, b"Hello there?\n")
    until("there?\r\n")
    time.sleep(0.5)
    assert "> " not in seen[at:]                                    # still answering
    os.write(controller, b"\x03")
    until("> ")
    os.write(controller, b"\x04")
    assert process.wait(timeout=20) == 0
    os.close(controller)
