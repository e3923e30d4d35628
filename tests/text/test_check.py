"""`data check` and `data convert`: what they say about files, by hand-counted examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.base.records import Message
from tutelage.cli.main import main
from tutelage.text.chat import encode_example, marked_text
from tutelage.text.check import check, rendered

PAIR = {"prompt": "hi", "chosen": "hello", "rejected": "go away"}


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tutelage(capsys):
    """Run a command line; (exit code, stdout, stderr)."""
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        return end.value.code, *capsys.readouterr()
    return run


def test_counts_lengths_and_duplicates_are_those_counted_by_hand(tmp_path):
    long = PAIR | {"prompt": "  HI ", "chosen": "x" * 100, "labeler": "ann"}
    path = jsonl(tmp_path / "a.jsonl", PAIR, long, PAIR, PAIR | {"prompt": "tea?"}, "{", PAIR | {"chosen": ""}, PAIR | {"chosen": ""})
    report = check(path, None, {}).report()
    assert report == {
        "layout": "preference", "rows": 4, "kinds": {"comparison": 4}, "rejected": 3, "turns": {"user": 4},
        "reasons": {"chosen is empty": {"rows": 2, "first": f"{path}:6"},
                    "not JSON: Expecting property name enclosed in double quotes": {"rows": 1, "first": f"{path}:5"}},
        "characters": {"prompt": {"min": 2, "median": 2, "p95": 4, "max": 5},
                       "answer": {"min": 5, "median": 7, "p95": 7, "max": 100}},
        "chosen_is_longer_frac": 0.25, "duplicates": {"rows": 1, "prompts": 2}}


def test_labels_and_goals_and_plain_text_are_told(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", *({"prompt": "hi", "completion": "x", "label": good} for good in (True, True, False, True)))
    assert check(path, None, {}).report()["labels_true_frac"] == 0.75
    assert check(path, "prompts", {}).report()["kinds"] == {"prompt": 4}
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert check(tmp_path / "a.txt", None, {}).report() == {
        "layout": "plain text", "rows": 2, "kinds": {"text": 2}, "rejected": 0, "reasons": {}, "duplicates": {"rows": 0},
        "characters": {"text": {"min": 3, "median": 3, "p95": 3, "max": 3}}}


def test_samples_are_what_training_sees(tmp_path, saved, opened):
    path = jsonl(tmp_path / "a.jsonl", PAIR, *[{**PAIR, "prompt": str(i)} for i in range(5)])
    samples = list(rendered(check(path, None, {}), saved("qwen")))
    tokenizer, prompt = opened("qwen"), (Message("user", "hi"),)
    expected = [marked_text(tokenizer, encode_example(tokenizer, prompt, text)) for text in ("hello", "go away")]
    assert len(samples) == 3 and samples[0] == {"at": f"{path}:1", "texts": expected, "verdict": "ranks 0, 1 (0 is best)"}
    own = list(rendered(check(path, "prompts", {}), None))
    assert own[0]["texts"] == ["<|bos|><|user|>hi<|eos|><|assistant|>"]
    own = list(rendered(check(path, "demonstrations", {}), None))
    assert own[1]["texts"] == ["<|bos|><|user|>0<|eos|><|assistant|>⟦hello<|eos|>⟧"]


def test_check_on_the_command_line_prints_or_gives_json_and_fails_a_bad_file(tmp_path, tutelage):
    path = jsonl(tmp_path / "a.jsonl", *[PAIR] * 9)
    code, out, _ = tutelage("data", "check", str(path))
    assert code == 0 and out.startswith("layout      preference\nrows        9 (9 comparisons)\nrejected    0\n")
    assert "⟦hello<|eos|>⟧" in out and "-> ranks 0, 1 (0 is best)" in out
    jsonl(path, *[PAIR] * 3, "{")
    code, out, _ = tutelage("data", "check", str(path), "--as", "prompts", "--json")
    report = json.loads(out)
    assert code == 1 and report["rejected"] == 1 and list(report["reasons"]) == [
        "not JSON: Expecting property name enclosed in double quotes"]
    assert tutelage("data", "check", str(path), "--max-rejected-frac", "0.25")[0] == 0
    convert = ("data", "convert", str(path), "--to", "preference", "--out", str(tmp_path / "b.jsonl"))
    assert tutelage(*convert)[0] == 1 and tutelage(*convert, "--max-rejected-frac", "0.25")[0] == 0


def test_convert_on_the_command_line_says_what_became_of_the_rows(tmp_path, tutelage):
    path = jsonl(tmp_path / "a.jsonl", *({"q": "hi", "good": "yes", "bad": "no", "id": i} for i in range(3)))
    columns = [text for name in ("prompt=q", "chosen=good", "rejected=bad") for text in ("--column", name)]
    code, out, _ = tutelage("data", "convert", str(path), *columns, "--to", "sharegpt-preference", "--out", str(tmp_path / "b.json"))
    assert (code, out) == (0, f"file: {tmp_path}/b.json\nfrom: preference\nto: sharegpt-preference\nrows_read: 3\nrows_written: 3\n")
    assert json.loads((tmp_path / "b.json").read_text())[0] == {
        "conversations": [{"from": "human", "value": "hi"}], "chosen": {"from": "gpt", "value": "yes"},
        "rejected": {"from": "gpt", "value": "no"}}
    code, _, err = tutelage("data", "convert", str(tmp_path / "b.json"), "--to", "messages", "--out", str(tmp_path / "c.jsonl"))
    assert code == 1 and err.splitlines()[0] == (
        f"error: {tmp_path}/b.json:2: the layout messages cannot hold this row: a judgement is not a conversation with an answer")
    code, _, err = tutelage("data", "check", str(path), "--column", "q")
    assert code == 2 and err.startswith("error: --column q is not of the form OURS=THEIRS")


def test_six_real_files_of_other_people_s_making_are_told_and_counted(data_root):
    def told(name: str, **columns: str) -> tuple[str, int, int]:
        report = check(data_root / f"{name}.jsonl.gz", None, {"columns": columns or None}).report()
        return report["layout"], report["rows"], report["rejected"]

    # Rows are those of the data sets' own README files.
    assert told("gsm8k/problems") == ("question-answer", 7514, 0)
    assert told("self_dialogues/dialogues") == ("messages", 20195, 0)
    assert told("truthful_answers/pairs") == ("preference", 5022, 0)
    assert told("llmbar/pairs", prompt="prompt", response_a="output_1", response_b="output_2", winner="label") == ("choice", 268, 0)
    rated = told("ticket_feedback/feedback", prompt="context", response="reply.content", label="reward")
    assert rated == ("unpaired", 3183, 4)                            # four rated turns open their conversation: no prompt
    layout, rows, rejected = told("convincing_arguments/pairs", prompt="topic", response_a="a1", response_b="a2", winner="gold")
    assert layout == "choice" and rows + rejected == 14858
