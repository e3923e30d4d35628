"""Files of feedback, read for all they know: who and when, skips, gold, what nobody judged yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.base.errors import DataError
from tutelage.base.records import Judgement, Message, Response
from tutelage.text.feedback import read_feedback
from tutelage.text.lines import Rejected
from tutelage.text.readers import read_judgements
from tutelage.text.sides import about_of, sides_of

HI = (Message("user", "hi"),)
YES, NO, SO = Response("yes"), Response("no"), Response("so")


def feedback(path: Path, *rows, **options) -> list[Judgement | Rejected]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [item for *_, item in read_feedback(path, **options)]


def annotation(*results, **about) -> dict:
    return {"result": [{"from_name": name, "to_name": "x", "type": kind, "value": value} for name, kind, value in results],
            "was_cancelled": False, **about}


def test_label_studio_s_annotations_keep_skips_gold_and_what_stands_beside_a_choice(tmp_path):
    task = {"id": 5, "data": {"prompt": "hi", "answer1": "yes", "answer2": "no"}, "annotations": [
        annotation(("p", "pairwise", {"selected": "left"}), ("strength", "rating", {"rating": 3}), ("a", "textarea", {"text": ["kinder"]}),
                   id=1, completed_by=7, lead_time=4.5, created_at="2026-01-02T03:04:05Z", ground_truth=True),
        annotation(id=2, completed_by={"id": 8, "email": "b@x"}, was_cancelled=True), annotation(id=3, completed_by=9)]}
    first, *skips = feedback(tmp_path / "a.jsonl", task)
    assert first == Judgement(HI, (YES, NO), "comparison", ranks=(0, 1), strength=3, labeler="7", seconds=4.5, at="2026-01-02T03:04:05Z",
                              extra={"item": "5", "annotation": "1", "gold": True, "comment": "kinder", "sides": [0, 1]})
    assert [(j.labeler, j.ranks, j.extra) for j in skips] == [
        ("b@x", None, {"item": "5", "annotation": "2", "skipped": True}), ("9", None, {"item": "5", "annotation": "3", "skipped": True})]


@pytest.mark.parametrize("data, kind, answers", [
    ({"answer1": "yes", "answer2": "no"}, "comparison", (YES, NO)), ({"answer": "yes"}, "rating", (YES,)), ({}, "demonstration", ()),
    ({"items": [{"id": i, "body": text} for i, text in enumerate(("yes", "no", "so"))]}, "ranking", (YES, NO, SO))])
def test_tasks_that_nobody_annotated_are_there_to_be_judged(tmp_path, data, kind, answers):
    assert feedback(tmp_path / "a.jsonl", {"data": {"prompt": "hi", **data}, "annotations": []}) == [
        Judgement(HI, answers, kind, extra={"open": True})]


def test_a_choice_of_other_words_is_a_verdict_which_training_does_not_take(tmp_path):
    tone = annotation(("tone", "choices", {"choices": ["curt"]}), completed_by=1)
    task = {"data": {"prompt": "hi", "answer": "yes"}, "annotations": [tone]}
    assert feedback(tmp_path / "a.jsonl", task) == [Judgement(HI, (YES,), "label", labeler="1", extra={"verdict": "curt"})]


def test_spans_alone_judge_no_answer(tmp_path):
    task = {"data": {"prompt": "hi", "answer": "yes"}, "annotations": [annotation(("span", "labels", {"start": 0}))]}
    assert [r.reason for r in feedback(tmp_path / "a.jsonl", task)] == ["results of the type labels judge no answer"]


def test_argilla_s_discarded_responses_are_skips_and_drafts_are_nothing(tmp_path):
    record = {"id": "r1", "fields": {"prompt": "hi", "response-1": "yes", "response-2": "no"}, "responses": [
        {"user_id": "u", "status": "submitted", "values": {"order": {"value": [{"value": "response-2", "rank": 1},
                                                                               {"value": "response-1", "rank": 1}]}}},
        {"user_id": "v", "status": "discarded", "values": None}, {"user_id": "w", "status": "draft", "values": {}}]}
    tie, skip = feedback(tmp_path / "a.jsonl", record)
    assert (tie.ranks, tie.labeler, tie.extra) == ((0, 0), "u", {"item": "r1"})
    assert (skip.kind, skip.labeler, skip.extra) == ("comparison", "v", {"item": "r1", "skipped": True})


def test_oasst_s_trees_give_each_person_s_ranking_where_they_have_it_and_the_labels(tmp_path):
    def reply(name: str, rank: int, **more) -> dict:
        return {"message_id": name, "text": name, "role": "assistant", "rank": rank, "replies": [], **more}

    labels = {"quality": {"value": 0.75, "count": 3}, "spam": {"value": 1.0, "count": 3}, "humor": {"value": 0.1, "count": 1}}
    prompt = {"message_id": "p", "text": "hi", "role": "prompter", "lang": "en", "user_id": "asker",
              "replies": [reply("yes", 0, labels=labels), reply("no", 1)],
              "events": {"ranking": [{"type": "ranking", "user_id": "u", "ranked_message_ids": ["no", "yes", "gone"]},
                                     {"type": "ranking", "user_id": "v", "ranked_message_ids": ["yes", "no"], "not_rankable": True}]}}
    by_person, rating = feedback(tmp_path / "a.jsonl", {"message_tree_id": "p", "prompt": prompt})
    assert by_person == Judgement(HI, (NO, YES), "comparison", ranks=(0, 1), labeler="u", extra={"language": "en", "user": "asker"})
    assert (rating.rating, rating.extra["flags"], rating.extra["labels"]) == (0.75, ["spam"], labels)
    del prompt["events"]
    [merged] = [j for j in feedback(tmp_path / "a.jsonl", {"message_tree_id": "p", "prompt": prompt}) if j.kind == "comparison"]
    assert (merged.responses, merged.ranks, merged.labeler) == ((YES, NO), (0, 1), None)


def test_both_bad_is_not_a_tie_and_an_address_is_nowhere(tmp_path):
    def row(vote: str) -> dict:
        states = [{"roles": ["U", "A"], "messages": [["U", "hi"], ["A", text]], "offset": 0, "model_name": f"m-{text}"}
                  for text in ("yes", "no")]
        return {"tstamp": 1.5, "type": vote, "models": ["", ""], "states": states, "ip": "10.1.2.3"}
    tie, bad = feedback(tmp_path / "a.jsonl", row("tievote"), row("bothbad_vote"))
    assert tie.ranks == bad.ranks == (0, 0) and (tie.extra, bad.extra) == ({"sides": [0, 1]}, {"sides": [0, 1], "both_bad": True})
    assert tie.at == "1970-01-01T00:00:01.500000+00:00" and "10.1.2.3" not in str([tie, bad])


def test_a_battle_between_models_whose_answers_are_not_told_is_kept_and_marked(tmp_path):
    row = {"prompt": "hi", "model_a": "x", "model_b": "y", "winner": "neither", "labeler": "ann"}
    assert feedback(tmp_path / "a.jsonl", row) == [Judgement(HI, (Response("", "x"), Response("", "y")), "comparison", ranks=(0, 0),
                                                             labeler="ann", extra={"untold": True, "both_bad": True, "sides": [0, 1]})]


def test_an_empty_answer_that_people_judged_counts(tmp_path):
    [found] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "response_a": "", "response_b": "no", "winner": "b"})
    assert found.responses == (Response(""), NO)


@pytest.mark.parametrize("row, answer", [({}, None), ({"model": "m"}, Response("", "m")), ({"completion": "yes"}, YES)])
def test_a_verdict_is_on_an_answer_or_on_whoever_gave_it(tmp_path, row, answer):
    [found] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "verdict": "curt", **row})
    assert found.reason == "an answer that is neither told nor named by its model" if answer is None else found.responses == (answer,)


def test_the_pick_of_several_answers_is_a_ranking_with_the_others_tied(tmp_path):
    good, bad = feedback(tmp_path / "a.jsonl", *({"prompt": "hi", "responses": ["yes", "no", "so"], "best": best} for best in (1, 3)))
    assert (good.kind, good.ranks) == ("ranking", (1, 0, 1)) and "best is 3" in bad.reason


SAMPLED = {"prompt": [{"role": "user", "content": "hi"}], "responses": [{"text": "yes"}, {"text": "no"}, {"text": "so"}]}


@pytest.mark.parametrize("kind, groups", [("ranking", [(YES, NO, SO)]), ("comparison", [(YES, NO), (YES, SO), (NO, SO)]),
                                          ("label", [(YES,), (NO,), (SO,)]), ("demonstration", [()])])
def test_answers_and_prompts_become_items_to_judge(tmp_path, kind, groups):
    found = feedback(tmp_path / "a.jsonl", SAMPLED, to_judge=kind)
    assert [(j.kind, j.responses, j.extra) for j in found] == [(kind, group, {"open": True}) for group in groups]
    if kind != "demonstration":
        assert [r.reason for r in feedback(tmp_path / "a.jsonl", {"prompt": "hi"}, to_judge=kind)] == [f"0 answers, too few for a {kind}"]


def test_a_potato_table_of_numbers_and_words(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("item,user,scheme,value,text\n1,ann,tone,curt,yes\n1,ann,stars,4,yes\n1,bo,ok,no,yes\n", encoding="utf-8")
    tone, stars, ok = [item for *_, item in read_feedback(path)]
    assert (tone.kind, tone.extra["verdict"], stars.rating, ok.label) == ("label", "curt", 4, False)
    assert [j.extra["batch"] for j in (tone, stars, ok)] == ["tone", "stars", "ok"] and tone.responses == (YES,)


@pytest.mark.parametrize("row, reason", [
    ({"ranks": [0, 1], "flags": [["spam"]]}, "flags is not a list with one entry for each answer"),
    ({"ranks": [0, 1], "ratings": [1, "x"]}, 'one of the ratings is "x", not a finite number'),
    ({"ranks": [0, 1], "sides": [1, 1]}, "sides are a list, not an order of the answers"),
    ({"ranks": [0, 1], "at": "yesterday"}, "'yesterday' is no time"), ({"kind": "poem"}, "kind is 'poem'"),
    ({"ranks": [0, 1], "item": "x" * 201}, "item has 201 characters"), ({"kind": "rating"}, "a rating without rating")])
def test_what_a_store_could_not_keep_is_rejected_with_the_reason(tmp_path, row, reason):
    good = {"prompt": "hi", "responses": ["yes", "no"], "ranks": [0, 1]}
    [found] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "responses": ["yes", "no"], **row}, good)[:1]
    assert isinstance(found, Rejected) and reason in found.reason and found.line == 1


def test_plain_text_holds_no_feedback(tmp_path):
    (tmp_path / "a.txt").write_text("hi\n")
    with pytest.raises(DataError, match="plain text, which holds no feedback"):
        list(read_feedback(tmp_path / "a.txt"))


@pytest.mark.parametrize("kind, extra", [
    ("ranking", {"ratings": [7, None], "flags": [["spam"], []], "all_bad": True, "comment": "hm"}), ("rating", {"flags": ["a", "b"]})])
def test_what_stands_beside_a_verdict_goes_into_named_questions_and_back(kind, extra):
    answers = (YES, NO) if kind == "ranking" else (YES,)
    judgement = Judgement(HI, answers, kind, strength=2.0, extra=extra)
    assert about_of(sides_of(judgement), len(answers)) == {**extra, "strength": 2.0}


def test_a_file_in_which_nothing_is_judged_is_refused_unless_it_is_to_be_judged(tmp_path):
    with pytest.raises(DataError, match="the layout prompt, in which nothing is judged"):
        feedback(tmp_path / "a.jsonl", {"prompt": "hi", "votes": [1, 2]})
    [found] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "completion": "yes"})
    assert found.reason == "an answer that nobody is said to have written or judged"
    [written] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "completion": "yes", "labeler": "ann"})
    assert (written.kind, written.responses, written.labeler) == ("demonstration", (YES,), "ann")
    [answer] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "completion": "yes"}, to_judge="rating")
    assert (answer.kind, answer.responses, answer.extra) == ("rating", (YES,), {"open": True})


@pytest.mark.parametrize("text", ["question,answer_1,answer_2,answer_3\nhi,yes,no,\n", "question,answer_1,answer_2\nhi,yes,no\n"])
def test_columns_that_hold_an_answer_each_are_the_list_of_answers(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    columns = {"prompt": "question", "responses": "answer_*"}
    [pair] = [item for *_, item in read_feedback(path, to_judge="comparison", columns=columns)]
    assert (pair.kind, pair.responses) == ("comparison", (YES, NO))
    lists = {"question": "hi", "rounds": [{"answers": ["yes", "no"]}, {"answers": ["so"]}]}
    each = feedback(tmp_path / "a.jsonl", lists, to_judge="rating", columns={"prompt": "question", "responses": "rounds.*.answers"})
    assert [j.responses for j in each] == [(YES,), (NO,), (SO,)]


def test_a_text_where_the_list_of_answers_should_be_is_refused_and_not_taken_letter_by_letter(tmp_path):
    [found] = feedback(tmp_path / "a.jsonl", {"prompt": "hi", "responses": "fine"}, to_judge="comparison")
    assert found.reason == 'responses is "fine", not a list'


def test_so_many_answers_that_every_two_of_them_were_too_many_are_refused(tmp_path):
    rows = [{"prompt": "hi", "responses": [f"answer {i}" for i in range(count)]} for count in (16, 17)]
    *pairs, refused = feedback(tmp_path / "a.jsonl", *rows, to_judge="comparison")
    assert len(pairs) == 120 and refused.reason == "17 answers, and of more than 16 not every two are compared"


@pytest.mark.parametrize("names", [("response_a", "response_b"), ("response1", "response2"), ("answer_a", "answer_b"),
                                   ("chosen", "rejected"), ("output_1", "output_2")])
def test_two_columns_of_answers_without_a_verdict_are_a_pair_to_be_judged(tmp_path, names):
    path = tmp_path / "a.csv"
    path.write_text(f"prompt,{','.join(names)}\nhi,yes,no\n", encoding="utf-8")
    [found] = [item for *_, item in read_feedback(path, to_judge="comparison")]
    assert found == Judgement(HI, (YES, NO), "comparison", extra={"open": True})


def test_mapped_columns_of_answers_their_models_and_rows_whose_verdict_is_missing_make_items_too(tmp_path):
    row = {"q": "hi", "x": "yes", "y": "no", "mx": "m1", "my": "m2"}
    columns = {"prompt": "q", "response_a": "x", "response_b": "y", "model_a": "mx", "model_b": "my"}
    [pair] = feedback(tmp_path / "a.jsonl", row, to_judge="comparison", columns=columns)
    assert pair.responses == (Response("yes", "m1"), Response("no", "m2"))
    half = {"prompt": "hi", "response_a": "yes", "response_b": "no"}
    judged, unjudged = feedback(tmp_path / "b.jsonl", half | {"winner": "a"}, half, to_judge="comparison", layout="choice")
    assert judged == unjudged == Judgement(HI, (YES, NO), "comparison", extra={"open": True})
    assert [r.reason for r in feedback(tmp_path / "c.jsonl", half | {"winner": "a"}, half, layout="choice")[1:]] == ["no field winner"]


@pytest.mark.parametrize("options, ours, mapped", [
    ({}, "hi", HI), ({"prompt_style": "raw"}, "hi", "hi"), ({"prompt_style": "chat"}, HI, HI)])
def test_a_plain_prompt_beside_responses_is_text_where_we_wrote_it_and_a_message_where_it_is_mapped_or_asked_for(
        tmp_path, options, ours, mapped):
    row, columns = {"prompt": "hi", "responses": ["yes", "no"], "ranks": [0, 1]}, {"prompt": "q", "responses": "rs", "ranks": "ranks"}
    [as_ours] = feedback(tmp_path / "a.jsonl", row, **options)
    [as_mapped] = feedback(tmp_path / "b.jsonl", {"q": "hi", "rs": ["yes", "no"], "ranks": [0, 1]}, columns=columns, **options)
    assert (as_ours.prompt, as_mapped.prompt) == (ours, mapped)
    assert [j.prompt for j in read_judgements(tmp_path / "b.jsonl", columns=columns, **options).rows] == [mapped], "as training reads it"
