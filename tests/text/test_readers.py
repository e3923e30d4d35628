"""Reading people's files: layouts, and everything that can be wrong with a file or a row."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Comparison, Demonstration, Judgement, Message, Response
from tutelage.text.readers import (
    Rejected,
    iter_texts,
    read_demonstrations,
    read_documents,
    read_judgements,
    read_prompts,
    read_sources,
    read_texts,
)

USER, ANSWER = Message("user", "hi"), Message("assistant", "hello")
HI = [{"role": "user", "content": "hi"}]
HELLO = [{"role": "assistant", "content": "hello"}]
BAD = [{"role": "assistant", "content": "go away"}]
LABEL = {"prompt": "hi", "completion": "hello", "label": True}


def jsonl(path: Path, *rows, packed: bool = False) -> Path:
    data = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@pytest.mark.parametrize("row, layout", [
    ({"prompt": "hi", "completion": "hello"}, "prompt-completion"), ({"prompt": HI, "completion": HELLO}, "prompt-completion"),
    ({"messages": HI + HELLO, "tools": []}, "messages"), ({"prompt": HI, "chosen": HELLO, "rejected": BAD}, "preference"),
    ({"chosen": HI + HELLO, "rejected": HI + BAD}, "preference-implicit"),
    ({"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"}, "hh-rlhf")])
def test_demonstrations_of_every_layout_say_the_same(tmp_path, row, layout):
    result = read_demonstrations(jsonl(tmp_path / "d.jsonl", row))
    assert result.rows == [Demonstration((USER,), "hello")] and result.layout == layout


@pytest.mark.parametrize("row, layout", [
    ({"prompt": "hi", "chosen": "hello", "rejected": "go away"}, "preference"),
    ({"prompt": HI, "chosen": HELLO, "rejected": BAD}, "preference"),
    ({"prompt": HI, "chosen": "hello", "rejected": "go away"}, "preference"),
    ({"chosen": HI + HELLO, "rejected": HI + BAD}, "preference-implicit"),
    ({"chosen": "\n\nHuman: hi\n\nAssistant: hello", "rejected": "\n\nHuman: hi\n\nAssistant: go away"}, "hh-rlhf"),
    ({"prompt": HI, "responses": [{"text": "hello"}, "go away"], "ranks": [0, 1]}, "judgement")])
def test_pairs_of_every_layout_say_the_same(tmp_path, row, layout):
    result = read_judgements(jsonl(tmp_path / "p.jsonl", row))
    assert result.rows == [Judgement((USER,), (Response("hello"), Response("go away")), "comparison", ranks=(0, 1))]
    assert result.rows[0].comparisons() == [Comparison((USER,), "hello", "go away")] and result.layout == layout


def test_an_implicit_prompt_of_strings_ends_at_a_space(tmp_path):
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    assert read_judgements(jsonl(tmp_path / "p.jsonl", row), prompt_style="raw").rows == [
        Judgement("The sky is", (Response(" blue."), Response(" black.")), "comparison", ranks=(0, 1))]


def test_labels_and_ratings_become_judgements_of_one_answer(tmp_path):
    about = {"labeler": "ann", "group": "a", "weight": 2, "seconds": 1.5}
    label = read_judgements(jsonl(tmp_path / "l.jsonl", LABEL | about, LABEL | {"label": 0})).rows
    assert label[0] == Judgement((USER,), (Response("hello"),), "label", label=True, **about) and label[1].label is False
    rating = read_judgements(jsonl(tmp_path / "r.jsonl", {"prompt": HI, "completion": HELLO, "rating": 4.5})).rows
    assert rating == [Judgement((USER,), (Response("hello"),), "rating", rating=4.5)]


def test_a_margin_reaches_the_comparison(tmp_path):
    row = {"prompt": "hi", "chosen": "hello", "rejected": "go away", "margin": 1.5, "weight": 2.0}
    assert read_judgements(jsonl(tmp_path / "p.jsonl", row)).rows[0].comparisons() == [
        Comparison((USER,), "hello", "go away", margin=1.5, weight=2.0)]


def test_our_judgements_come_back_as_they_were_written(tmp_path):
    answers = (Response("a", "m", {"temperature": 1.0}, (-0.5,)), Response("b"), Response("c"))
    rows = [Judgement("raw text", answers, "ranking", ranks=(1, 0, 0), strength=2.0, labeler="x", at="2026-01-01T00:00:00Z",
                      extra={"item": 3}),
            Judgement((USER,), (Response("a"),), "critique", critique="too short")]
    assert read_judgements(jsonl(tmp_path / "j.jsonl.gz", *(j.to_json() for j in rows), packed=True)).rows == rows


@pytest.mark.parametrize("row", [{"prompt": HI}, {"prompt": "hi"}, LABEL, {"messages": HI + HELLO}, {"messages": HI},
                                 {"prompt": HI, "responses": ["a"], "kind": "label", "label": True}])
def test_prompts_come_from_every_layout_that_has_them(tmp_path, row):
    assert read_prompts(jsonl(tmp_path / "p.jsonl", row)).rows == [(USER,)]


def test_a_string_prompt_is_one_user_turn_or_raw_text_as_asked(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "hi", "completion": "hello"})
    assert read_demonstrations(path).rows[0].prompt == (USER,)
    assert read_demonstrations(path, prompt_style="raw").rows[0].prompt == "hi"


def test_prompts_cut_at_the_first_turn_end_there_and_are_read_once(tmp_path):
    welcome = {"role": "assistant", "content": "welcome"}
    path = jsonl(tmp_path / "p.jsonl", {"prompt": [welcome, *HI]}, {"prompt": [welcome, *HI, *HELLO, *HI]}, {"prompt": HI})
    assert read_prompts(path, cut="first_turn").rows == [(Message("assistant", "welcome"), USER), (USER,)]
    assert len(read_prompts(path).rows) == 3
    lonely = jsonl(tmp_path / "q.jsonl", {"prompt": HI}, {"prompt": [welcome]})
    assert read_prompts(lonely, cut="first_turn", max_rejected_frac=0.5).reasons() == {"no user turn to cut the prompt after": 1}


def test_sources_are_each_read_with_their_own_columns(tmp_path):
    rated = jsonl(tmp_path / "a.jsonl", {"context": HI, "reply": {"content": "hello"}, "good": 1})
    pairs = jsonl(tmp_path / "b.jsonl", {"context": HI, "better": "hello", "worse": "go away"})
    found = read_sources(read_judgements, [
        ([rated], {"columns": {"prompt": "context", "response": "reply.content", "label": "good"}}),
        ([pairs], {"columns": {"prompt": "context", "chosen": "better", "rejected": "worse"}})])
    assert found.layout == "unpaired, preference"
    assert [(j.label, j.ranks) for j in found.rows] == [(True, None), (None, (0, 1))]


def test_a_column_map_follows_dotted_paths_and_list_indices(tmp_path):
    row = {"context": HI, "reply": {"content": "hello", "kind": "call"}, "marks": [{"good": 1}], "a.b": "ann"}
    columns = {"prompt": "context", "response": "reply.content", "label": "marks.0.good", "labeler": "a.b"}
    result = read_judgements(jsonl(tmp_path / "f.jsonl", row), columns=columns)
    assert result.rows == [Judgement((USER,), (Response("hello"),), "label", label=True, labeler="ann")] and result.layout == "unpaired"
    columns["response"] = "reply"                                   # a whole message, kind and all
    row["reply"]["role"] = "assistant"
    assert read_judgements(jsonl(tmp_path / "f.jsonl", row), columns=columns).rows[0].responses == (Response("hello"),)


def test_masked_kinds_of_assistant_turns_are_kept_and_not_trained(tmp_path):
    call = {"role": "assistant", "content": "look()", "kind": "call"}
    messages = [*HI, call, {"role": "tool", "content": "tea", "kind": "call"}, *HELLO]
    path = jsonl(tmp_path / "d.jsonl", {"messages": messages})
    assert read_demonstrations(path, mask_where={"kind": "call"}).rows == [
        Demonstration((USER, Message("assistant", "look()", trained=False), Message("tool", "tea")), "hello")]
    assert all(m.trained for m in read_demonstrations(path).rows[0].prompt)


def test_a_conversation_ends_at_its_last_trained_answer(tmp_path):
    call = {"role": "assistant", "content": "bye()", "kind": "call"}
    path = jsonl(tmp_path / "d.jsonl", {"messages": [*HI, *HELLO, *HI, call, *HI]})
    assert read_demonstrations(path, mask_where={"kind": "call"}).rows == [Demonstration((USER,), "hello")]
    assert read_demonstrations(path).rows == [Demonstration((USER, ANSWER, USER), "bye()")]


def test_a_completion_of_several_turns_stays_several_turns(tmp_path):
    row = {"prompt": HI, "completion": [*HELLO, {"role": "tool", "content": "x"}, *BAD]}
    assert read_demonstrations(jsonl(tmp_path / "d.jsonl", row)).rows == [
        Demonstration((USER,), (ANSWER, Message("tool", "x"), Message("assistant", "go away")))]


def test_plain_text_is_read_by_paragraph_line_or_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n\r\nthree\n")
    assert read_texts(path).rows == ["one\ntwo", "three"] and read_texts(path).layout == "plain text"
    assert read_texts(path, text_unit="line").rows == ["one", "two", "three"]
    assert read_texts(path, text_unit="file").rows == ["one\ntwo\n\n\nthree"]
    assert read_prompts(path).rows == [(Message("user", line),) for line in ("one", "two", "three")]


def test_texts_come_from_conversations_too(tmp_path):
    assert read_texts(jsonl(tmp_path / "a.jsonl", {"messages": HI + HELLO})).rows == ["user: hi\nassistant: hello"]
    assert read_texts(jsonl(tmp_path / "b.jsonl", {"prompt": "a b", "completion": " c"})).rows == ["a b c"]
    assert read_documents(tmp_path / "a.jsonl").rows == [(USER, ANSWER)] and read_documents(tmp_path / "b.jsonl").rows == ["a b c"]


@pytest.mark.parametrize("row, layouts", [
    ({"text": "a", "messages": HI}, "messages or text"),
    ({"prompt": "a", "completion": "b", "chosen": "c", "rejected": "d"}, "preference or prompt-completion")])
def test_an_ambiguous_layout_is_refused_naming_the_candidates(tmp_path, row, layouts):
    with pytest.raises(DataError, match=f"ambiguous: {layouts}"):
        read_prompts(jsonl(tmp_path / "a.jsonl", row))
    assert read_texts(jsonl(tmp_path / "a.jsonl", {"text": "a", "messages": HI}), layout="text").rows == ["a"]


def test_a_mixed_file_is_ambiguous(tmp_path):
    with pytest.raises(DataError, match="ambiguous: prompt-completion or unpaired"):
        read_demonstrations(jsonl(tmp_path / "a.jsonl", LABEL, {"prompt": "a", "completion": "b"}))


def test_the_ranks_of_a_list_may_stand_under_another_name(tmp_path):
    path = jsonl(tmp_path / "f.jsonl", {"question": "hi", "answers": ["a", "b", "c"], "places": [2, 0, 0], "sure": 3})
    found = read_judgements(path, columns={"prompt": "question", "responses": "answers", "ranks": "places"}).rows
    assert [(j.kind, j.ranks, [r.text for r in j.responses], j.strength) for j in found] == [("ranking", (2, 0, 0), ["a", "b", "c"], None)]


def test_a_null_is_an_absent_value_of_a_column_that_is_there(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", LABEL | {"rating": None}, LABEL | {"label": None}, LABEL)
    result = read_judgements(path, max_rejected_frac=0.5)
    assert (result.layout, len(result.rows), result.reasons()) == ("unpaired", 2, {"no field label": 1})
    mapped = read_judgements(path, columns={name: name for name in LABEL}, max_rejected_frac=0.5)
    assert mapped == result


def test_rated_answers_are_not_silently_demonstrations(tmp_path):
    path = jsonl(tmp_path / "l.jsonl", LABEL)
    with pytest.raises(DataError, match="layout unpaired, which is not read as demonstrations"):
        read_demonstrations(path)
    assert read_demonstrations(path, columns={"prompt": "prompt", "response": "completion"}).rows == [Demonstration((USER,), "hello")]


@pytest.mark.parametrize("content, message", [
    (None, "cannot read .*No such file"), (b"", "is empty"), (b"\n\n", "no judgements in"), (b"[{}]\n", "no known layout has the columns"),
    (b'{"prompt": "caf\xe9"}\n', r":1: not UTF-8 \(byte 0xe9 at column 16\)"), ("{}".encode("utf-16"), "UTF-16, not UTF-8"),
    (b"PAR1....", "Parquet, not UTF-8"), (b"hello\n", ":1: not JSON: .*so for each of the first 1 rows"),
    (b'{"what": 1}\n', "no known layout has the columns what")])
def test_a_bad_file_is_one_line_naming_it_and_the_remedy(tmp_path, content, message):
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_judgements(path)
    assert "bad.jsonl" in str(caught.value) and "\n" not in str(caught.value) and caught.value.hint


def test_truncated_damaged_and_false_gzip_files_name_the_line(tmp_path):
    rows = [LABEL | {"prompt": f"{i} {os.urandom(40).hex()}"} for i in range(2000)]
    path = jsonl(tmp_path / "a.jsonl.gz", *rows, packed=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d{2,}: the gzip file is truncated"):
        read_judgements(path)
    path.write_bytes(whole[:len(whole) // 2] + b"garbage" * 99 + whole[len(whole) // 2 + 693:])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d+: the gzip file is damaged"):
        read_judgements(path)
    path.write_bytes(b'{"text": "a"}\n')
    with pytest.raises(DataError, match="named .gz but is not gzip data"):
        read_judgements(path)
    (tmp_path / "b.jsonl").write_bytes(whole)                       # gzip without the name
    assert len(read_judgements(tmp_path / "b.jsonl").rows) == 2000


@pytest.mark.parametrize("bad, reason", [
    ('{"prompt": "a", "completion": "b", "label": NaN}', "the number NaN"),
    ('{"prompt": "a", "completion": "b", "label": true, "weight": -Infinity}', "the number -Infinity"),
    ('{"prompt": "a", "completion": "b", "label": true, "weight": 1e999}', "weight is Infinity, not a finite number"),
    ('{"prompt": "a", "prompt": "b", "completion": "b", "label": true}', "the key 'prompt' twice"),
    ('{"prompt": "a\0", "completion": "b", "label": true}', "NUL bytes"),
    ('{"prompt": "a\\u0000", "completion": "b", "label": true}', "prompt holds a NUL character"),
    ('{"prompt": "a\\ud800", "completion": "b", "label": true}', "prompt holds half a surrogate pair"),
    ('{"prompt": "a", "completion": "b", "label": 2}', "label is 2, not true, false, 0 or 1"),
    ('{"prompt": "a", "completion": "b", "label": "1"}', "label is '1', not true, false, 0 or 1"),
    ('{"prompt": "a", "completion": " ", "label": 1}', "completion is empty"),
    ('{"prompt": "a", "completion": null, "label": 1}', "no field completion"),
    ('{"prompt": [{"role": "boss", "content": "x"}], "completion": "b", "label": 1}',
     "role is 'boss', not one of system, user, assistant, tool"),
    ('{"prompt": [{"role": "user", "content": null}], "completion": "b", "label": 1}', "content of a user message is missing, not text"),
    ('{"prompt": [], "completion": "b", "label": 1}', "an empty list of messages"),
    ('{"prompt": ["x"], "completion": "b", "label": 1}', "a list where text or a list of messages should be"),
    ('{"prompt": "a", "label": 1}', "no field completion"), ("[1]", "a JSON list, not an object"),
    ('{"prompt": "a", "comp', "not JSON: Unterminated string starting at"), ("[" * 100_000, "maximum recursion depth exceeded")])
def test_a_bad_row_is_listed_with_its_reason_and_the_rest_is_read(tmp_path, bad, reason):
    path = jsonl(tmp_path / "a.jsonl", *[LABEL] * 24, "", bad, LABEL)
    result = read_judgements(path)
    assert len(result.rows) == 25
    [rejected] = result.rejected
    assert (rejected.file, rejected.line) == (path, 26) and rejected.reason.startswith(reason)


def test_rows_are_rejected_up_to_a_share_and_then_the_read_fails(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", *[LABEL] * 8, LABEL | {"label": 7}, LABEL | {"label": 7})
    with pytest.raises(DataError, match=r"a\.jsonl:9: label is 7.*\(2 such rows; 2 of 10 rejected\)"):
        read_judgements(path)
    result = read_judgements(path, max_rejected_frac=0.2)
    assert len(result.rows) == 8 and result.reasons() == {"label is 7, not true, false, 0 or 1": 2}


@pytest.mark.parametrize("chosen, rejected, reason", [
    ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d", "chosen and rejected differ in more than the last turn"),
    ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant:", "rejected is empty"),
    ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b", "chosen and rejected are the same text"),
    ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "\n\nHuman: a\n\nAssistant: b\n\nHuman: d", "the last turn is not the assistant's")])
def test_transcripts_that_are_no_pair_are_rejected(tmp_path, chosen, rejected, reason):
    good = {"chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: x", "rejected": "\n\nHuman: a\n\nHuman: b\n\nAssistant: y"}
    result = read_judgements(jsonl(tmp_path / "hh.jsonl", *[good] * 9, {"chosen": chosen, "rejected": rejected}))
    assert result.reasons() == {reason: 1}
    assert result.rows[0].prompt == (Message("user", "a"), Message("user", "b"))         # the same speaker twice is kept as said


def test_wrong_options_name_the_nearest_right_one(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", LABEL)
    with pytest.raises(ConfigError, match=r"columns\.respons: .*did you mean response\?"):
        read_judgements(path, columns={"respons": "x"})
    with pytest.raises(ConfigError, match=r"layout=alpacca: no such layout \(did you mean alpaca\?\)"):
        read_judgements(path, layout="alpacca")
    with pytest.raises(ConfigError, match="no data files"):
        read_judgements([])
    with pytest.raises(DataError, match=r"no field reply\.text \(fields: prompt, completion, label\); so for each"):
        read_judgements(path, columns={"prompt": "prompt", "response": "reply.text", "label": "label"})


def test_several_files_are_each_read_in_their_own_layout(tmp_path):
    files = [jsonl(tmp_path / "a.jsonl", LABEL), jsonl(tmp_path / "b.jsonl", {"prompt": HI, "chosen": HELLO, "rejected": BAD})]
    result = read_judgements(files)
    assert [r.kind for r in result.rows] == ["label", "comparison"] and result.layout == "unpaired, preference"


def test_iterating_reads_no_further_than_asked(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", *[{"text": str(i)} for i in range(40)], '{"text": ""}')
    with open(path, "ab") as stream:
        stream.write(b"\xff\n")                                     # never reached
    rows = iter_texts(path)
    assert [next(rows) for _ in range(41)] == [*map(str, range(40)), Rejected(path, 41, "text is empty")]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=40), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("user"),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "completion", "label", "role", "content", "messages",
                                                                        "responses", "ranks", "kind", "text", "chosen"]), x, max_size=4),
    max_leaves=8).map(lambda x: json.dumps(x).encode())), max_size=12))
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(tmp_path, lines):
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(b"\n".join(lines))
    for read in (read_judgements, read_demonstrations, read_prompts, read_texts):
        try:
            read(path, max_rejected_frac=1.0)
        except DataError as error:
            assert "\n" not in str(error) and "fuzz.jsonl" in str(error)


def test_the_rows_of_the_docs_page_are_read_in_the_order_of_its_table(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = page.split("```json\n")[1].split("```")[0].splitlines()
    read = [read_texts] + [read_prompts] * 7
    layouts = [make(jsonl(tmp_path / f"{i}.jsonl", row)).layout for i, (make, row) in enumerate(zip(read, rows, strict=True))]
    assert layouts == ["text", "messages", "prompt", "prompt-completion", "preference", "hh-rlhf", "unpaired", "judgement"]
    assert all(f"| `{layout}` |" in page for layout in layouts)


def test_the_coffee_bar_s_files_are_read_whole(data_root):
    coffee = data_root / "coffee_orders"
    talks = read_demonstrations(coffee / "dialogues.jsonl.gz", mask_where={"kind": "call"})
    rated = read_judgements(coffee / "feedback.jsonl.gz", columns={"prompt": "context", "response": "reply.content", "label": "reward"})
    pairs = read_judgements(coffee / "pairs.jsonl.gz",
                            columns={"prompt": "context", "chosen": "chosen.content", "rejected": "rejected.content"})
    assert (len(talks.rows), len(talks.rejected)) == (3162, 0)
    assert (len(rated.rows), rated.reasons()) == (2781, {"an empty list of messages": 6})    # rated turns that open a conversation
    assert 0.85 < sum(bool(j.label) for j in rated.rows) / len(rated.rows) < 0.87            # the data's own README: 86 % positive
    assert (len(pairs.rows), len(pairs.rejected)) == (508, 0)


def test_the_harmlessness_pairs_are_read_whole(data_root):
    pairs = read_judgements(data_root / "hh_harmless" / "pairs.jsonl.gz")
    assert (len(pairs.rows), len(pairs.rejected), pairs.layout) == (1986, 0, "preference")
    shorter = [len(c.chosen) < len(c.rejected) for j in pairs.rows for c in j.comparisons() if len(c.chosen) != len(c.rejected)]
    assert round(sum(shorter) / len(shorter), 2) == 0.56            # the data's own README


@pytest.mark.parametrize("wrong", [
    {"ranks": [0, 0.5]}, {"ranks": [0, True]}, {"ranks": "01"}, {"ranks": {"0": 1, "1": 0}}, {"ranks": [-1, 0]}, {"ranks": [0, 2**31]},
    {"weight": -1}, {"weight": "1"}, {"target": 7}, {"target": "x"}, {"target": -0.1}, {"margin": "x"}, {"margin": [1]}])
def test_a_judgement_that_would_teach_something_else_is_refused(tmp_path, wrong):
    row = {"prompt": "p", "responses": ["a", "b"], "kind": "comparison", "ranks": [0, 1]}
    file = jsonl(tmp_path / "j.jsonl", *[row] * 20, row | wrong)
    found = read_judgements(file)
    assert len(found.rows) == 20 and [r.line for r in found.rejected] == [21], found.rejected
    assert next(iter(wrong)) in found.rejected[0].reason or "str" in found.rejected[0].reason


def test_whole_ranks_written_as_floats_and_nulls_are_read(tmp_path):
    row = {"prompt": "p", "responses": ["a", "b"], "kind": "comparison", "ranks": [1.0, 0.0], "margin": None, "target": None}
    assert [(c.chosen, c.margin) for c in read_judgements(jsonl(tmp_path / "j.jsonl", row)).rows[0].comparisons()] == [("b", 0.0)]


def test_columns_that_differ_in_case_alone_are_mapped_in_the_hint(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Prompt,Chosen,Rejected\nhi,yes,no\n")
    with pytest.raises(DataError) as caught:
        read_judgements(path)
    assert "--column prompt=Prompt --column chosen=Chosen --column rejected=Rejected" in caught.value.hint
    assert len(read_judgements(path, columns={"prompt": "Prompt", "chosen": "Chosen", "rejected": "Rejected"}).rows) == 1
