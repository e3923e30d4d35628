"""Rows as other tools write them, and what they say in our records. The rows are laid out as those tools' own documentation shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.base.errors import DataError
from tutelage.base.records import Demonstration, Judgement, Message, Response
from tutelage.text.readers import input_files, read_demonstrations, read_judgements, read_prompts, read_texts

HI, HELLO, MORE = Message("user", "hi"), Message("assistant", "hello"), Message("user", "tea?")
BRIEF = Message("system", "be brief")
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "tea?"}]
GPT_TALK = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}, {"from": "human", "value": "tea?"}]
YES, NO = {"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "no"}


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pair(*prompt: Message, **about) -> Judgement:
    return Judgement(prompt, (Response("yes"), Response("no")), "comparison", ranks=(0, 1), **about)


@pytest.mark.parametrize("layout, row", [
    ("alpaca", {"instruction": "tea?", "input": "", "output": "yes", "system": "be brief", "history": [["hi", "hello"]]}),
    ("sharegpt", {"conversations": [*GPT_TALK, {"from": "gpt", "value": "yes"}], "system": "be brief", "tools": "[]"}),
    ("openrlhf", {"input": [{"role": "system", "content": "be brief"}, *TALK], "output": "yes", "datasource": "a"}),
    ("query-response", {"query": "tea?", "response": "yes", "system": "be brief", "history": [["hi", "hello"]]}),
    ("ultrachat", {"prompt": "be brief", "prompt_id": "1", "messages": [{"role": "system", "content": "be brief"}, *TALK, YES]})])
def test_demonstrations(tmp_path, layout, row):
    result = read_demonstrations(jsonl(tmp_path / "a.jsonl", row))
    assert (result.layout, result.rows) == (layout, [Demonstration((BRIEF, HI, HELLO, MORE), "yes")])


def test_alpaca_s_input_is_a_second_line_and_a_question_needs_no_more(tmp_path):
    assert read_prompts(jsonl(tmp_path / "a.jsonl", {"instruction": "sort", "input": "b a", "output": "a b"})).rows == [
        (Message("user", "sort\nb a"),)]
    found = read_demonstrations(jsonl(tmp_path / "b.jsonl", {"question": "2 + 2?", "answer": "4"}))
    assert (found.layout, found.rows) == ("question-answer", [Demonstration((Message("user", "2 + 2?"),), "4")])


@pytest.mark.parametrize("layout, row", [
    ("alpaca-preference", {"instruction": "tea?", "chosen": "yes", "rejected": "no", "history": [["hi", "hello"]]}),
    ("sharegpt-preference", {"conversations": GPT_TALK, "chosen": {"from": "gpt", "value": "yes"},
                             "rejected": {"from": "gpt", "value": "no"}}),
    ("openrlhf-preference", {"input": TALK, "chosen": "yes", "rejected": "no"}),
    ("swift-preference", {"messages": [*TALK, YES], "rejected_response": "no"}),
    ("swift-preference-messages", {"messages": [*TALK, YES], "rejected_messages": [*TALK, NO]}),
    ("nemo-rl", {"context": TALK, "completions": [{"rank": 0, "completion": [YES]}, {"rank": 1, "completion": [NO]}]}),
    ("ultrafeedback", {"prompt": "tea?", "chosen": [*TALK, YES], "rejected": [*TALK, NO], "messages": [*TALK, YES], "score_chosen": 9.0}),
    ("arena-battle", {"question_id": 1, "model_a": None, "model_b": None, "winner": "model_a", "conversation_a": [*TALK, YES],
                      "conversation_b": [*TALK, NO], "anony": True, "tstamp": 1.0})])
def test_pairs(tmp_path, layout, row):
    result = read_judgements(jsonl(tmp_path / "a.jsonl", row))
    assert (result.layout, result.rows) == (layout, [pair(HI, HELLO, MORE)])


@pytest.mark.parametrize("layout, row", [
    ("alpaca-kto", {"instruction": "tea?", "output": "no", "kto_tag": False, "history": [["hi", "hello"]]}),
    ("sharegpt-kto", {"conversations": [*GPT_TALK, {"from": "gpt", "value": "no"}], "kto_tag": False}),
    ("openrlhf-kto", {"input": TALK, "output": "no", "label": 0}), ("swift-kto", {"messages": [*TALK, NO], "label": False})])
def test_labels(tmp_path, layout, row):
    result = read_judgements(jsonl(tmp_path / "a.jsonl", row))
    assert (result.layout, result.rows) == (layout, [Judgement((HI, HELLO, MORE), (Response("no"),), "label", label=False)])


CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "tea?"}]


@pytest.mark.parametrize("entry, row, layout", [
    ({"columns": {"prompt": "q", "response": "a", "history": "h", "system": "s"}},
     {"q": "tea?", "a": "yes", "h": [["hi", "hello"]], "s": "be brief", "input": "not named, so not read"}, "alpaca"),
    ({}, {"instruction": "tea?", "input": "", "output": "yes"}, "alpaca"),
    ({"ranking": True, "columns": {"prompt": "instruction", "query": "input", "chosen": "good", "rejected": "bad", "history": "h"}},
     {"instruction": "tea?", "input": "", "good": "yes", "bad": "no", "h": [["hi", "hello"]]}, "alpaca-preference"),
    ({"formatting": "sharegpt", "columns": {"messages": "talk", "system": "s"}},
     {"talk": [*GPT_TALK, {"from": "gpt", "value": "yes"}], "s": "be brief"}, "sharegpt"),
    ({"formatting": "sharegpt", "columns": {"messages": "talk"}, "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "P",
                                                                         "assistant_tag": "M"}},
     {"talk": [{"who": "P", "said": "tea?"}, {"who": "M", "said": "yes"}]}, "sharegpt"),
    ({"formatting": "sharegpt", "ranking": True, "columns": {"messages": "talk", "chosen": "good", "rejected": "bad"}},
     {"talk": GPT_TALK, "good": {"from": "gpt", "value": "yes"}, "bad": {"from": "gpt", "value": "no"}}, "sharegpt-preference"),
    ({"formatting": "openai", "columns": {"messages": "talk"}}, {"talk": [*CHAT, YES]}, "sharegpt")])
def test_dataset_info_beside_a_file_names_its_columns_roles_and_kind(tmp_path, entry, row, layout):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([row]))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.json", **entry}, "other": {"hf_hub_url": "a/b"}}))
    result = read_demonstrations(path)
    assert result.layout == layout and result.rows[0].response == "yes" and result.rows[0].prompt[-1] == MORE
    if "h" in row or "talk" in row and len(row["talk"]) > 2:
        assert result.rows[0].prompt[-3:-1] == (HI, HELLO)
    assert (result.rows[0].prompt[0] == BRIEF) == ("s" in row)


def test_dataset_info_is_read_too_where_it_says_how(tmp_path):
    path, other, info = tmp_path / "mine.jsonl", tmp_path / "other.jsonl", tmp_path / "dataset_info.json"
    for each in (path, other):
        jsonl(each, {"q": "hi", "a": "yes"})
    info.write_text(json.dumps({"a": {"file_name": "mine.jsonl", "columns": {"prompt": "q", "response": "a"}}}))
    assert input_files([([str(tmp_path / "*.jsonl")], {})]) == [path, other, info]
    assert input_files([([str(path)], {"columns": {"prompt": "q", "response": "a"}}), ([str(other)], {})], str(other)) == [path, other]


def test_dataset_info_that_speaks_of_other_files_or_is_another_tool_s_changes_nothing(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", {"prompt": "hi", "completion": "yes"})
    for text in ("{", "[]", json.dumps({"features": {}, "description": ""}), json.dumps({"a": {"file_name": "other.jsonl"}})):
        (tmp_path / "dataset_info.json").write_text(text)
        assert read_demonstrations(path).layout == "prompt-completion"
    for entry in ({"formatting": "x"}, {"columns": ["prompt"]}, {"columns": {"prompt": ["prompt"]}}, {"tags": {"role_tag": 1}}):
        (tmp_path / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "mine.jsonl", **entry}}))
        with pytest.raises(DataError, match="the entry of mine.jsonl cannot be followed"):
            read_demonstrations(path)
    assert read_demonstrations(path, layout="prompt-completion").rows == [Demonstration((HI,), "yes")]


def test_pretraining_entries_name_a_text(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", {"body": "once"})
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "mine.jsonl", "columns": {"prompt": "body"}}}))
    assert read_texts(path).rows == ["once"]


def test_a_system_and_question_pair_as_axolotl_s_intel_strategy(tmp_path):
    row = {"system": "be brief", "question": "hi", "chosen": "yes", "rejected": "no"}
    assert read_judgements(jsonl(tmp_path / "a.jsonl", row)).rows == [pair(BRIEF, HI)]


def test_verl_rows_are_prompts(tmp_path):
    row = {"data_source": "gsm8k", "prompt": TALK[:1], "ability": "math", "reward_model": {"style": "rule", "ground_truth": "4"},
           "extra_info": {"index": 0}}
    assert read_prompts(jsonl(tmp_path / "a.jsonl", row)).rows == [(HI,)] and read_prompts(tmp_path / "a.jsonl").layout == "verl"


def test_k_answers_of_nemo_s_kind_keep_their_ranks_and_ties(tmp_path):
    texts = [{"rank": 3, "completion": "c"}, {"rank": 1, "completion": "a"}, {"rank": 1, "completion": "b"}]
    [found] = read_judgements(jsonl(tmp_path / "a.jsonl", {"context": "hi", "completions": texts})).rows
    assert [r.text for r in found.responses] == ["c", "a", "b"] and found.ranks == (1, 0, 0) and found.kind == "ranking"


@pytest.mark.parametrize("winner, ranks", [("a", (0, 1)), ("B", (1, 0)), (1, (0, 1)), ("2", (1, 0)), ("tie", (0, 0)), ("better", (1, 0)),
                                           ("worse", (0, 1)), ("equal", (0, 0))])
def test_a_choice_is_read_by_letter_number_or_the_answer_s_own_column(tmp_path, winner, ranks):
    path = jsonl(tmp_path / "a.jsonl", {"q": "hi", "worse": "yes", "better": "no", "vote": winner})
    columns = {"prompt": "q", "response_a": "worse", "response_b": "better", "winner": "vote"}
    result = read_judgements(path, columns=columns)
    assert result.layout == "choice" and result.rows[0].ranks == ranks and [r.text for r in result.rows[0].responses] == ["yes", "no"]


def test_votes_make_the_choice_a_matter_of_degree(tmp_path):
    row = {"prompt": "hi", "a1": "yes", "a2": "no", "gold": "a1", "votes": [{"vote": "a1"}, {"vote": "equal"}, "a2", "a1"]}
    columns = {"prompt": "prompt", "response_a": "a1", "response_b": "a2", "winner": "gold", "votes": "votes"}
    [found] = read_judgements(jsonl(tmp_path / "a.jsonl", row), columns=columns).rows
    assert (found.ranks, found.extra) == ((0, 1), {"target": 2.5 / 4})


def test_a_zero_is_no_winner_since_half_the_world_counts_from_one(tmp_path):
    rows = [{"prompt": "hi", "response_a": "yes", "response_b": "no", "winner": w} for w in (1, 2, 0)]
    result = read_judgements(jsonl(tmp_path / "a.jsonl", *rows), max_rejected_frac=0.5)
    assert len(result.rows) == 2 and result.rejected[0].reason.startswith("0 names neither of two answers")
    assert read_demonstrations(tmp_path / "a.jsonl", max_rejected_frac=0.5).rows[1].response == "no"


def test_labels_of_steps_make_one_label_and_keep_the_steps(tmp_path):
    row = {"prompt": "hi", "completions": ["one", "two"], "labels": [True, False]}
    assert read_judgements(jsonl(tmp_path / "a.jsonl", row)).rows == [
        Judgement((HI,), (Response("one\ntwo"),), "label", label=False, extra={"steps": ["one", "two"], "step_labels": [True, False]})]


def test_the_red_team_s_transcripts_are_prompts_and_texts_but_not_to_be_imitated(tmp_path):
    row = {"transcript": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: tea?\n\nAssistant: no", "rating": 0.0, "model_type": "plain lm",
           "min_harmlessness_score_transcript": -1.2}
    path = jsonl(tmp_path / "a.jsonl", row)
    assert read_prompts(path).rows == [(HI,)] and read_texts(path).rows[0].startswith("user: hi\nassistant: hello")
    with pytest.raises(DataError, match="layout hh-red-team, which is not read as demonstrations"):
        read_demonstrations(path)


def test_summary_comparisons_are_laid_out_as_in_their_paper(tmp_path):
    row = {"info": {"id": "t3", "post": "long", "title": "short", "subreddit": "tea"}, "choice": 1, "worker": "w1", "batch": "b",
           "summaries": [{"text": " bad", "policy": "sup1"}, {"text": " good", "policy": "ref"}], "split": "train", "extra": {}}
    assert read_judgements(jsonl(tmp_path / "a.jsonl", row)).rows == [
        Judgement("SUBREDDIT: r/tea\nTITLE: short\nPOST: long\nTL;DR:", (Response(" bad", "sup1"), Response(" good", "ref")), "comparison",
                  ranks=(1, 0), labeler="w1")]


def test_tool_calls_and_parts_of_text_become_text_and_images_are_refused(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [
        {"type": "function", "function": {"name": "brew", "arguments": "{\"leaf\": \"oolong\"}"}}]}
    talk = [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, call,
            {"role": "tool", "name": "brew", "content": "done"}, YES]
    image = [{"role": "user", "content": [{"type": "image"}]}, YES]
    result = read_demonstrations(jsonl(tmp_path / "a.jsonl", {"messages": talk}, {"messages": image}), max_rejected_frac=0.5)
    assert result.rows[0].prompt == (HI, Message("assistant", '{"name": "brew", "arguments": {"leaf": "oolong"}}'), Message("tool", "done"))
    assert result.reasons() == {"a message holds a part of type image, and only text is read": 1}


# -- OASST ---------------------------------------------------------------------------------------------------------------

def node(text: str, *replies, role: str = "assistant", **more) -> dict:
    return {"message_id": text, "text": text, "role": role, "lang": "en", "replies": list(replies), **more}


TREE = {"message_tree_id": "hi", "tree_state": "ready_for_export", "prompt": node(
    "hi", node("bad", rank=2), node("hello", node("tea?", node("yes", rank=0), node("no", rank=1), role="prompter"), rank=0),
    node("unranked"), node("gone", rank=1, deleted=True), role="prompter")}


def test_siblings_of_a_tree_become_rankings_under_their_parent(tmp_path):
    result = read_judgements(jsonl(tmp_path / "a.jsonl", TREE))
    assert result.layout == "oasst-tree" and result.rows == [
        Judgement((HI,), (Response("hello"), Response("bad")), "comparison", ranks=(0, 1)), pair(HI, HELLO, MORE)]


def test_a_tree_s_demonstration_follows_the_best_replies_and_its_prompts_are_all_questions(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", TREE)
    assert read_demonstrations(path).rows == [Demonstration((HI, HELLO, MORE), "yes")]
    assert read_prompts(path).rows == [(HI,), (HI, HELLO, MORE)]


def test_the_flat_file_of_messages_says_what_the_trees_say(tmp_path):
    def flat(found, parent=None):
        yield {k: v for k, v in found.items() if k != "replies"} | {"message_tree_id": "hi"} | ({"parent_id": parent} if parent else {})
        for reply in found["replies"]:
            yield from flat(reply, found["message_id"])
    other = node("why?", node("because", rank=1), node("so", rank=0), role="prompter")
    rows = [*flat(TREE["prompt"]), *({**row, "message_tree_id": "2"} for row in flat(other))]
    result = read_judgements(jsonl(tmp_path / "flat.jsonl", *rows))
    assert result.layout == "oasst-messages"
    assert result.rows == read_judgements(jsonl(tmp_path / "a.jsonl", TREE, {"message_tree_id": "2", "prompt": other})).rows


# -- Chatbot Arena -------------------------------------------------------------------------------------------------------

def test_the_arena_s_raw_log_gives_votes_and_no_addresses(tmp_path):
    def state(said, model):
        return {"roles": ["USER", "ASSISTANT"], "messages": [["USER", "hi"], ["ASSISTANT", said]], "offset": 0, "model_name": model}
    row = {"tstamp": 1.0, "type": "bothbad_vote", "models": ["", ""], "states": [state("yes", "m1"), state("no", "m2")], "ip": "10.1.2.3"}
    chat = {"tstamp": 2.0, "type": "share", "models": [], "states": [], "ip": "10.1.2.3"}
    result = read_judgements(jsonl(tmp_path / "a.jsonl", row, chat), max_rejected_frac=0.5)
    assert result.rows == [Judgement((HI,), (Response("yes", "m1"), Response("no", "m2")), "comparison", ranks=(0, 0),
                                     extra={"both_bad": True})]
    assert result.reasons() == {"the event share is no vote": 1} and "10.1.2.3" not in json.dumps(result.rows[0].to_json())


def test_the_arena_s_table_holds_lists_as_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n'
                    '1,m1,m2,"[""hi""]","[""yes""]","[""no""]",0,1,0\n', encoding="utf-8")
    result = read_judgements(path)
    assert result.layout == "arena-55k" and result.rows == [
        Judgement((HI,), (Response("yes", "m1"), Response("no", "m2")), "comparison", ranks=(1, 0))]


@pytest.mark.parametrize("said, reason", [
    ("I am ChatGPT.", r"an answer names a model or its maker \(chatgpt\)"), (None, "an answer is missing"),
    ("**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**", "an answer is an error message")])
def test_votes_that_were_not_blind_or_not_on_answers_are_left_out(tmp_path, said, reason):
    row = {"conversation_a": [TALK[0], {"role": "assistant", "content": said}], "conversation_b": [TALK[0], NO], "winner": "model_a"}
    with pytest.raises(DataError, match=reason):
        read_judgements(jsonl(tmp_path / "a.jsonl", row))


# -- Label Studio and Argilla --------------------------------------------------------------------------------------------

def task(data: dict, kind: str, value: dict, **more) -> dict:
    result = {"id": "r", "from_name": more.pop("from_name", kind), "to_name": "x", "type": kind, "value": value}
    annotation = {"id": 7, "completed_by": 3, "result": [result], "was_cancelled": False, "lead_time": 2.5,
                  "created_at": "2026-01-01T00:00:00Z", **more}
    return {"id": 1, "data": data, "predictions": [], "annotations": [annotation]}


WHO = {"labeler": "3", "seconds": 2.5, "at": "2026-01-01T00:00:00Z"}
TWO = {"prompt": "hi", "answer1": "yes", "answer2": "no"}
ITEMS = {"prompt": "hi", "items": [{"id": "x", "title": "1", "body": "yes"}, {"id": "y", "title": "2", "body": "no"},
                                   {"id": "z", "title": "3", "body": "so"}]}
ONE = {"prompt": "hi", "answer": "yes"}


@pytest.mark.parametrize("found, judgement", [
    (task(TWO, "pairwise", {"selected": "left"}), pair(HI, **WHO)),
    (task(ITEMS, "ranker", {"ranker": ["z", "x", "y"]}),
     Judgement((HI,), (Response("so"), Response("yes"), Response("no")), "ranking", ranks=(0, 1, 2), **WHO)),
    (task(ITEMS, "ranker", {"ranker": {"best": ["x"], "none": [], "worst": ["y", "z"]}}),
     Judgement((HI,), (Response("yes"), Response("no"), Response("so")), "ranking", ranks=(0, 1, 1), **WHO)),
    (task(ONE, "rating", {"rating": 4}), Judgement((HI,), (Response("yes"),), "rating", rating=4, **WHO)),
    (task(ONE, "choices", {"choices": ["Good"]}), Judgement((HI,), (Response("yes"),), "label", label=True, **WHO)),
    (task(ONE, "textarea", {"text": ["too short"]}), Judgement((HI,), (Response("yes"),), "critique", critique="too short", **WHO)),
    (task(ONE, "textarea", {"text": ["yes!"]}, from_name="edited"), Judgement((HI,), (Response("yes"),), "edit", edit="yes!", **WHO))])
def test_label_studio_s_tasks(tmp_path, found, judgement):
    path = tmp_path / "export.json"                                 # one JSON array, as Label Studio exports
    path.write_text(json.dumps([found], indent=1))
    result = read_judgements(path)
    assert (result.layout, result.rows) == ("label-studio", [judgement])


def test_answers_that_people_wrote_in_label_studio_are_demonstrations(tmp_path):
    asked = {"prompt": "hi"}
    both = task(asked, "textarea", {"text": ["hello", "there"]}, from_name="response")
    both["annotations"] += task(asked, "textarea", {"text": ["good day"]}, from_name="response")["annotations"]
    skipped = task(asked, "textarea", {"text": ["no"]}, was_cancelled=True)
    result = read_demonstrations(jsonl(tmp_path / "a.jsonl", both, skipped), max_rejected_frac=0.5)
    assert [(d.prompt, d.response) for d in result.rows] == [((HI,), "hello\nthere"), ((HI,), "good day")]
    assert result.reasons() == {"nobody answered (no text area filled in, or skipped)": 1}
    with pytest.raises(DataError, match="label-studio-answers"):
        read_judgements(tmp_path / "a.jsonl")


def test_each_annotation_of_a_task_counts_and_cancelled_ones_do_not(tmp_path):
    both = task(TWO, "pairwise", {"selected": "none"})
    both["annotations"] += [task(TWO, "pairwise", {"selected": "right"}, completed_by={"id": 4, "email": "b@x"})["annotations"][0],
                            task(TWO, "pairwise", {"selected": "left"}, was_cancelled=True)["annotations"][0]]
    skipped = task(TWO, "pairwise", {"selected": "left"}, was_cancelled=True)
    result = read_judgements(jsonl(tmp_path / "a.jsonl", both, skipped), max_rejected_frac=0.5)
    assert [(j.labeler, j.ranks) for j in result.rows] == [("3", (0, 0)), ("b@x", (1, 0))]
    assert result.reasons() == {"nobody judged the task (no annotation, or skipped)": 1}


def record(values: dict, **fields) -> dict:
    return {"id": "1", "fields": {"prompt": "hi", **fields}, "status": "completed",
            "responses": [{"values": values, "status": "submitted", "user_id": "u1"},
                          {"values": values, "status": "discarded", "user_id": "u2"}]}


@pytest.mark.parametrize("found, judgement", [
    (record({"order": {"value": [{"value": "b", "rank": 1}, {"value": "a", "rank": 2}]}}, a="no", b="yes"), pair(HI, labeler="u1")),
    (record({"order": {"value": [{"value": v, "rank": r} for v, r in (("a", 1), ("b", 1), ("c", 2))]}}, a="x", b="y", c="z"),
     Judgement((HI,), (Response("x"), Response("y"), Response("z")), "ranking", ranks=(0, 0, 1), labeler="u1")),
    (record({"stars": {"value": 4}}, response="yes"), Judgement((HI,), (Response("yes"),), "rating", rating=4, labeler="u1")),
    (record({"ok": {"value": "no"}}, response="yes"), Judgement((HI,), (Response("yes"),), "label", label=False, labeler="u1"))])
def test_argilla_s_records_as_its_server_gives_them(tmp_path, found, judgement):
    result = read_judgements(jsonl(tmp_path / "a.jsonl", found))
    assert (result.layout, result.rows) == ("argilla", [judgement])


def test_a_thumb_in_the_arena_s_log_is_a_yes_or_no_for_one_answer(tmp_path):
    state = {"roles": ["USER", "ASSISTANT"], "messages": [["USER", "hi"], ["ASSISTANT", "yes"]], "offset": 0, "model_name": "m1"}
    row = {"tstamp": 1.0, "type": "downvote", "model": "m1", "state": state, "ip": "10.1.2.3"}
    assert read_judgements(jsonl(tmp_path / "a.jsonl", row)).rows == [Judgement((HI,), (Response("yes", "m1"),), "label", label=False)]


SDK_RANKING = [["b", "a"], ["2", "1"], [{"value": "b"}, {"value": "a"}]]


@pytest.mark.parametrize("value", SDK_RANKING)
@pytest.mark.parametrize("flat", [False, True])
def test_rankings_in_argilla_s_sdk_files_are_refused_since_they_lost_their_ranks(tmp_path, value, flat):
    # What the SDK's to_list writes for two people, nested and flattened.
    fields = {"prompt": "hi", "a": "x", "b": "y"}
    row = ({"id": "1", "status": "completed", "_server_id": None, **fields, "order.responses": [value], "order.responses.users": ["u"],
            "order.responses.status": ["submitted"]} if flat else
           {"id": "1", "fields": fields, "responses": {"order": [{"value": value, "user_id": "u"}]}})
    with pytest.raises(DataError, match=r"a ranking as Argilla's SDK writes it, without its ranks \(argilla#5712\)"):
        read_judgements(jsonl(tmp_path / "a.jsonl", row))


@pytest.mark.parametrize("flat", [False, True])
def test_everything_else_in_argilla_s_sdk_files_is_read(tmp_path, flat):
    fields = {"prompt": "hi", "response": "yes"}
    row = ({"id": "1", "status": "completed", "_server_id": None, **fields, "stars.responses": [4, 2, 1],
            "stars.responses.users": ["u", "v", "w"], "stars.responses.status": ["submitted", "submitted", "draft"],
            "critique.responses": ["short"], "critique.responses.users": ["u"], "critique.responses.status": ["submitted"]} if flat else
           {"id": "1", "fields": fields, "responses": {"stars": [{"value": 4, "user_id": "u"}, {"value": 2, "user_id": "v"}],
                                                       "critique": [{"value": "short", "user_id": "u"}]}})
    found = read_judgements(jsonl(tmp_path / "a.jsonl", row))
    assert found.layout == ("argilla-flat" if flat else "argilla")
    assert [(j.labeler, j.rating, j.critique) for j in found.rows] == [("u", 4, None), ("u", None, "short"), ("v", 2, None)]
