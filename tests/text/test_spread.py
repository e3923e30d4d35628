"""Rows that hold several judgements, told by a star in the column's path."""

from __future__ import annotations

import json

import pytest

from tutelage.base.errors import DataError
from tutelage.text.readers import read_judgements
from tutelage.text.spread import spread

ROW = {"q": "tea?", "one": "yes", "two": "no", "votes": [{"who": "ann", "won": 2}, {"who": "bo", "won": 1}],
       "by_slot": {"w0": 1, "w1": None}, "rater_1": 3, "rater_2": None, "answers": ["a", "b", "c"], "pairs": [[0, 2, 1], [1, 0, 2]], "n": 4}


def test_a_star_makes_a_row_of_each_element_and_a_hash_is_its_number():
    assert list(spread(ROW, {"prompt": "q", "winner": "votes.*.won", "labeler": "votes.*.who", "item": "votes.#"})) == [
        {"prompt": "tea?", "winner": 2, "labeler": "ann", "item": "1"}, {"prompt": "tea?", "winner": 1, "labeler": "bo", "item": "2"}]


@pytest.mark.parametrize("path, name, found", [("by_slot.*", "by_slot.#", [(1, "w0")]), ("rater_*", "rater_#", [(3, "1")])])
def test_keys_of_an_object_and_columns_of_a_form_are_elements_too_and_nulls_are_no_judgements(path, name, found):
    assert [(row["label"], row["labeler"]) for row in spread(ROW, {"label": path, "labeler": name})] == found


def test_a_path_in_angle_brackets_is_looked_up_first():
    columns = {"response_a": "answers.<pairs.*.0>", "response_b": "answers.<pairs.*.1>", "winner": "pairs.*.2"}
    assert [tuple(row.values()) for row in spread(ROW, columns)] == [("a", "c", 1), ("b", "a", 2)]


def test_a_template_is_filled_in():
    assert list(spread(ROW, {"prompt": "{q} ({n})"})) == [{"prompt": "tea? (4)"}]


@pytest.mark.parametrize("path, match", [("votes.*.*", "more than one"), ("n.*", "n is 4, where a list or an object should be"),
                                         ("judge_*", r"no field judge_\*"), ("votes.*.vote", r"no field votes\.0\.vote"),
                                         ("{votes}", "votes is a list, which cannot stand in a text")])
def test_a_path_that_leads_nowhere_is_said(path, match):
    with pytest.raises(ValueError, match=match):
        list(spread(ROW, {"label": path}))


def test_training_reads_each_vote_as_a_comparison_by_the_file_s_own_words(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROW | {"votes": [{"who": "ann", "won": 2}, {"who": "bo", "won": 0}]}) + "\n")
    columns = {"prompt": "q", "response_a": "one", "response_b": "two", "winner": "votes.*.won", "labeler": "votes.*.who"}
    found = read_judgements(path, columns=columns, verdicts={"0": "tie"}).rows
    assert [(j.labeler, j.ranks) for j in found] == [("ann", (1, 0)), ("bo", (0, 0))]
    with pytest.raises(DataError, match="0 names neither"):
        read_judgements(path, columns=columns)
