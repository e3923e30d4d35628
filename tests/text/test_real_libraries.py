"""Files that datasets and TRL themselves write and read: what they hold is what we say, in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from trl import data_utils as trl

from tutelage.base.errors import DataError
from tutelage.text.convert import convert
from tutelage.text.readers import read_demonstrations, read_judgements, read_prompts

HI, HELLO, NO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "assistant", "content": "no"}
TALK = [{"role": "system", "content": "be brief"}, HI, HELLO, {"role": "user", "content": "tea?"}]
TOOL = {"type": "function", "function": {"name": "brew", "parameters": {"type": "object", "properties": {"leaf": {"type": "string"}}}}}
STANDARD = {
    "text": {"text": "The sky is blue."}, "prompt": {"prompt": "The sky is"},
    "prompt-completion": {"prompt": "The sky is", "completion": " blue."},
    "preference": {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
    "preference-implicit": {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    "unpaired": {"prompt": "The sky is", "completion": " blue.", "label": True},
    "stepwise": {"prompt": "Which is larger?", "completions": ["It is 9.11.", "So 9.11."], "labels": [True, False]}}
CONVERSATIONAL = {
    "messages": {"messages": [*TALK, HELLO]}, "prompt": {"prompt": TALK}, "prompt-completion": {"prompt": TALK, "completion": [HELLO]},
    "preference": {"prompt": TALK, "chosen": [HELLO], "rejected": [NO]},
    "preference-implicit": {"chosen": [*TALK, HELLO], "rejected": [*TALK, NO]},
    "unpaired": {"prompt": TALK, "completion": [HELLO], "label": False}}
"""A row of each of TRL's types, from its page on dataset formats."""


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def loaded(path: Path):
    """The rows as the datasets library loads them."""
    kind = {"jsonl": "json", "json": "json"}.get(path.suffix[1:], path.suffix[1:])
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", ["standard", "conversational"])
def test_every_type_of_trl_goes_round_through_the_datasets_library(tmp_path, form, suffix):
    for layout, row in (STANDARD if form == "standard" else CONVERSATIONAL).items():
        written, out = tmp_path / f"{layout}.{suffix}", tmp_path / f"{layout}-back.{suffix}"
        made = datasets.Dataset.from_list([row, row])
        getattr(made, "to_json" if suffix == "jsonl" else "to_parquet")(str(written))
        done = convert(written, layout, out, options={"prompt_style": "raw"} if form == "standard" else {})
        assert list(done.layouts) == [layout] and loaded(out).to_list() == [row, row], layout


def test_trl_finds_the_prompt_where_we_do(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", *[CONVERSATIONAL["preference"]] * 2)
    convert(source, "preference-implicit", tmp_path / "b.jsonl")
    rows = loaded(tmp_path / "b.jsonl")
    assert trl.is_conversational(rows[0]) and "prompt" not in rows.column_names
    assert [trl.maybe_extract_prompt(row) for row in rows] == [CONVERSATIONAL["preference"]] * 2


def test_pairs_that_trl_unpairs_are_our_labels(tmp_path):
    pairs = datasets.Dataset.from_list([CONVERSATIONAL["preference"]] * 2)
    trl.unpair_preference_dataset(pairs).to_json(str(tmp_path / "a.jsonl"))
    result = read_judgements(tmp_path / "a.jsonl")
    labels = [(j.responses[0].text, j.label) for j in result.rows]
    assert result.layout == "unpaired" and labels == [("hello", True)] * 2 + [("no", False)] * 2


def test_other_people_s_layouts_become_what_trl_takes(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
                   {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "no"}]})
    theirs = [trl.maybe_convert_to_chatml(dict(row))["messages"] for row in loaded(source)]
    convert(source, "messages", tmp_path / "b.jsonl")
    ours = [row["messages"] for row in loaded(tmp_path / "b.jsonl").to_list()]
    roles = {"human": "user", "gpt": "assistant"}                   # TRL renames the keys and leaves the roles
    theirs = [[{"role": roles[m["role"]], "content": m["content"]} for m in messages] for messages in theirs]
    assert ours == theirs == [[HI, HELLO], [HI, NO]]


def test_a_column_of_tools_is_passed_over_and_calls_come_as_text(tmp_path):
    call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "brew", "arguments": {"leaf": "oolong"}}}]}
    rows = [{"messages": [HI, call, {"role": "tool", "name": "brew", "content": "done"}, HELLO], "tools": [TOOL]}] * 2
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "a.parquet"))
    [found, _] = read_demonstrations(tmp_path / "a.parquet").rows
    assert [m.content for m in found.prompt] == ["hi", '{"name": "brew", "arguments": {"leaf": "oolong"}}', "done"]


def test_files_of_ours_load_and_files_of_no_rows_are_refused(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", *[CONVERSATIONAL["preference"] | {"labeler": "ann", "margin": 0.5}] * 3)
    for suffix in ("csv", "json", "parquet"):
        out = tmp_path / f"b.{suffix}"
        convert(source, "sharegpt-preference", out)
        assert len(loaded(out)) == 3 and loaded(out)[0]["labeler"] == "ann", suffix
    datasets.Dataset.from_list([]).to_parquet(str(tmp_path / "c.parquet"))
    with pytest.raises(DataError, match=r"no prompts in .*c\.parquet"):
        read_prompts(tmp_path / "c.parquet")
