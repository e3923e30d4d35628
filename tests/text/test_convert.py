"""Round trips: what a layout holds comes back from its file, what it cannot hold is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Judgement, Message, Response
from tutelage.text.convert import FORMATS, convert
from tutelage.text.detect import LAYOUTS
from tutelage.text.readers import read_demonstrations, read_documents, read_judgements, read_prompts
from tutelage.text.writers import WRITERS

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\t"), min_size=1, max_size=12).filter(str.strip)
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
TALK = [{"role": "system", "content": "be brief"}, USER, ANSWER, {"role": "user", "content": "tea?"}]
HOLDS = {
    "conversation": {"messages", "prompt-completion", "alpaca", "sharegpt", "openrlhf", "query-response", "ultrachat",
                     "label-studio-answers"},
    "question": {"messages", "prompt-completion", "alpaca", "sharegpt", "openrlhf", "query-response", "ultrachat", "question-answer",
                 "label-studio-answers"},
    "pair": {"preference", "preference-implicit", "hh-rlhf", "choice", "judgement", "alpaca-preference", "sharegpt-preference",
             "openrlhf-preference", "nemo-rl", "swift-preference", "question-preference", "oasst-tree", "arena-battle", "label-studio",
             "argilla", "long"},
    "tie": {"choice", "judgement", "nemo-rl", "oasst-tree", "arena-battle", "label-studio", "argilla", "long"},
    "ranking": {"preference", "preference-implicit", "hh-rlhf", "judgement", "alpaca-preference", "sharegpt-preference",
                "openrlhf-preference", "swift-preference", "question-preference", "oasst-tree", "label-studio", "argilla", "long"},
    "label": {"unpaired", "judgement", "alpaca-kto", "sharegpt-kto", "openrlhf-kto", "swift-kto", "label-studio", "argilla", "long"},
    "rating": {"rating", "judgement", "label-studio", "argilla", "long"},
    "critique": {"judgement", "label-studio", "argilla", "long"},
    "prompt": {"prompt"},
    "text": {"text"},
    "steps": {"stepwise", "unpaired", "judgement", "alpaca-kto", "sharegpt-kto", "openrlhf-kto", "swift-kto", "label-studio", "argilla",
              "long"},
}
"""Which layouts hold what, from their own documentation."""
ROWS = {
    "conversation": {"messages": [*TALK, ANSWER]}, "question": {"messages": [USER, ANSWER]}, "prompt": {"prompt": TALK},
    "text": {"text": "a b"},
    "pair": {"prompt": TALK[1:], "chosen": [ANSWER], "rejected": "no"},
    "tie": {"prompt": TALK[1:], "responses": ["a", "b"], "ranks": [0, 0]},
    "ranking": {"prompt": [USER], "responses": ["a", "b", "c"], "ranks": [2, 0, 1]},
    "label": {"prompt": TALK, "completion": "no", "label": False}, "rating": {"prompt": TALK, "completion": "no", "rating": 2.5},
    "critique": {"prompt": TALK, "responses": ["no"], "kind": "critique", "critique": "short"},
    "steps": {"prompt": TALK, "completions": ["a", "b"], "labels": [True, True]},
}


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tied_or_in_order(comparison):
    """Both answers: the preferred one first, or, when neither is, in the order of their texts."""
    return sorted((comparison.chosen, comparison.rejected)) if comparison.target == 0.5 else [comparison.chosen, comparison.rejected]


def said(path: Path):
    """What a file says, by the public readers alone: documents, prompts, or pairs and verdicts."""
    for read in (read_judgements, read_documents, read_prompts):
        try:
            found = read(path)
        except DataError as error:
            if "is not read as" not in str(error):
                raise
            continue
        if read is read_judgements:
            return sorted(repr((c.prompt, tied_or_in_order(c), c.target, c.weight)) if c
                          else repr((j.prompt, j.responses[0].text, j.label, j.rating, j.critique))
                          for j in found.rows for c in j.comparisons(ties="half") or [None])
        return found.rows
    raise AssertionError(path)


def test_every_writable_layout_is_asked_of_something():
    assert set().union(*HOLDS.values()) == set(WRITERS) and set(WRITERS) <= set(LAYOUTS)


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("kind", ROWS)
def test_a_layout_holds_what_its_documentation_says_and_refuses_the_rest(tmp_path, kind, to):
    source, out = jsonl(tmp_path / "a.jsonl", ROWS[kind], ROWS[kind]), tmp_path / "b.jsonl"
    if to not in HOLDS[kind]:
        with pytest.raises(DataError, match=rf"a\.jsonl:1: the layout {to} cannot hold this row: "):
            convert(source, to, out)
        assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
        return
    result = convert(source, to, out)
    assert result.rows_read == 2 and said(out) == said(source)


messages = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3).map(
    lambda pairs: [m for user, answer in pairs for m in ({"role": "user", "content": user}, {"role": "assistant", "content": answer})])
with_system = st.tuples(st.booleans(), TEXTS, messages).map(
    lambda t: [*([{"role": "system", "content": t[1]}] if t[0] else []), *t[2]])
conversations = with_system.map(lambda rows: {"messages": rows})
rankings = st.tuples(with_system, st.lists(st.tuples(TEXTS, st.integers(0, 3)), min_size=2, max_size=4, unique_by=lambda t: t[0])).map(
    lambda t: {"prompt": t[0][:-1], "responses": [text for text, _ in t[1]], "ranks": [rank for _, rank in t[1]]})
about = st.sampled_from([{}, {"margin": 0.5}, {"weight": 2.0, "labeler": "ann"}, {"target": 0.8}])
pairs = st.tuples(with_system, TEXTS, TEXTS, about).filter(lambda t: t[1] != t[2]).map(
    lambda t: {"prompt": t[0][:-1], "chosen": t[1], "rejected": t[2], **t[3]})
labels = st.tuples(with_system, TEXTS, st.booleans()).map(lambda t: {"prompt": t[0][:-1], "completion": t[1], "label": t[2]})


@pytest.mark.parametrize("to", WRITERS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(conversations, rankings, pairs, labels))
def test_whatever_was_said_comes_back_or_is_refused(tmp_path, to, row):
    out = tmp_path / "out.jsonl"
    out.unlink(missing_ok=True)
    source = jsonl(tmp_path / "a.jsonl", row)
    try:
        convert(source, to, out)
    except DataError as error:
        assert f"the layout {to} cannot hold this row: " in str(error) and not out.exists()
    else:
        assert said(out) == said(source)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind, to", [("conversation", "messages"), ("conversation", "alpaca"), ("pair", "preference"),
                                      ("label", "unpaired"), ("label", "alpaca-kto"), ("steps", "stepwise"), ("ranking", "judgement"),
                                      ("rating", "judgement"), ("pair", "nemo-rl"), ("text", "text")])
def test_every_form_of_file_gives_the_rows_back(tmp_path, kind, to, suffix):
    source, out = jsonl(tmp_path / "a.jsonl", ROWS[kind], ROWS[kind]), tmp_path / f"b{suffix}"
    convert(source, to, out)
    assert said(out) == said(source)


@pytest.mark.parametrize("kind, to", [("pair", "label-studio"), ("pair", "argilla"), ("pair", "oasst-tree")])
def test_rows_whose_objects_no_reader_opens_in_a_cell_are_refused_in_csv_and_written_in_other_forms(tmp_path, kind, to):
    source = jsonl(tmp_path / "a.jsonl", ROWS[kind])
    with pytest.raises(DataError, match=rf"a\.jsonl:1: the layout {to} in CSV cannot hold this row: "):
        convert(source, to, tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()
    convert(source, to, tmp_path / "b.json")
    assert said(tmp_path / "b.json") == said(source)


def test_rows_that_do_not_fit_are_skipped_only_when_asked_and_then_counted(tmp_path):
    tie, pair = {"prompt": [USER], "responses": ["a", "b"], "ranks": [0, 0]}, {"prompt": [USER], "responses": ["a", "b"], "ranks": [1, 0]}
    source = jsonl(tmp_path / "a.jsonl", pair, tie, pair | {"labeler": "ann", "item": 3})
    result = convert(source, "preference", tmp_path / "b.jsonl", skip=True)
    assert (result.rows_read, result.rows_written) == (3, 2) and result.left_behind == {"item"}
    assert result.skipped == {"answers are tied, which a chosen and a rejected one cannot say": 1}
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in ("b", "a"))
    assert json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0]) == {"prompt": [USER], "chosen": chosen, "rejected": rejected}


def test_a_limit_counts_rows_that_were_skipped_and_files_are_named_by_all_their_layouts(tmp_path):
    tie = ROWS["tie"]
    source, more = jsonl(tmp_path / "a.jsonl", ROWS["ranking"], tie, *[ROWS["ranking"]] * 5), jsonl(tmp_path / "b.jsonl", ROWS["pair"])
    result = convert(source, "preference", tmp_path / "c.jsonl", skip=True, options={"limit": 2})
    assert (result.rows_read, sum(result.skipped.values())) == (2, 1) and len(read_judgements(tmp_path / "c.jsonl").rows) == 3
    assert list(convert([source, more], "judgement", tmp_path / "d.jsonl").layouts) == ["judgement", "preference"]


def test_blank_lines_are_no_rows_whatever_the_layout(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"no rows in .*a\.jsonl$"):
        convert(tmp_path / "a.jsonl", "preference", tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


def test_the_sides_of_a_soft_target_turn_with_the_pair(tmp_path):
    row = {"prompt": [USER], "responses": ["a", "b"], "ranks": [1, 0], "target": 0.25}
    convert(jsonl(tmp_path / "a.jsonl", row), "preference", tmp_path / "b.jsonl")
    assert json.loads((tmp_path / "b.jsonl").read_text())["target"] == 0.75
    assert read_judgements(tmp_path / "b.jsonl").rows[0].extra == {"target": 0.75}


def test_what_training_would_weigh_is_never_left_behind(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", ROWS["ranking"] | {"weight": 2.0})
    with pytest.raises(DataError, match="cannot hold this row: it has no place for weight"):
        convert(source, "argilla", tmp_path / "b.jsonl")


def test_one_goal_of_many_may_be_asked_for(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", ROWS["pair"])
    convert(source, "sharegpt", tmp_path / "b.jsonl", goal="demonstrations")
    assert read_demonstrations(tmp_path / "b.jsonl").rows == read_demonstrations(source).rows
    convert(source, "prompt", tmp_path / "c.jsonl", goal="prompts")
    assert read_prompts(tmp_path / "c.jsonl").rows == read_prompts(source).rows


def test_raw_text_prompts_stay_raw_and_have_no_place_in_conversations(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", {"prompt": "Once upon", "completion": " a time"})
    raw = {"prompt_style": "raw"}
    convert(source, "prompt-completion", tmp_path / "b.jsonl", options=raw)
    assert (tmp_path / "b.jsonl").read_text() == source.read_text()
    with pytest.raises(DataError, match="the prompt is raw text to continue, not a conversation"):
        convert(source, "sharegpt", tmp_path / "c.jsonl", options=raw)


def test_plain_text_becomes_rows(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n")
    convert(tmp_path / "a.txt", "text", tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_text() == '{"text": "one\\ntwo"}\n{"text": "three"}\n'


@pytest.mark.parametrize("to, out, match", [
    ("verl", "b.jsonl", "verl can be read but not written"), ("alpacca", "b.jsonl", r"no such layout \(did you mean alpaca\?\)"),
    ("alpaca", "b.txt", "unknown form"), ("alpaca", "a.jsonl", "is already there")])
def test_a_wrong_target_is_told_before_anything_is_read(tmp_path, to, out, match):
    jsonl(tmp_path / "a.jsonl", ROWS["question"])
    with pytest.raises(ConfigError, match=match):
        convert(tmp_path / "nowhere.jsonl", to, tmp_path / out)


def test_too_many_unusable_rows_leave_no_file(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", ROWS["question"], {"messages": []})
    with pytest.raises(DataError, match=r"a\.jsonl:2: an empty list of messages"):
        convert(source, "alpaca", tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


def test_a_file_written_twice_is_the_same_to_the_byte(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", ROWS["pair"], ROWS["pair"])
    for name in ("b.jsonl.gz", "c.jsonl.gz"):
        convert(source, "preference", tmp_path / name)
    assert (tmp_path / "b.jsonl.gz").read_bytes() == (tmp_path / "c.jsonl.gz").read_bytes()


def test_judgements_come_back_whole(tmp_path):
    row = Judgement((Message("user", "hi"),), (Response("a", "m"), Response("b")), "comparison", ranks=(0, 1), strength=2.0, labeler="x")
    convert(jsonl(tmp_path / "a.jsonl", row.to_json()), "judgement", tmp_path / "b.jsonl")
    assert read_judgements(tmp_path / "b.jsonl").rows == [row]
