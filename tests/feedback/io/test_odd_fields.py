"""Any JSON value in any field of a row: the row comes in or is left out with a reason in people's words, and the others come in."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.layouts import ROWS, places, spoilt
from tutelage.feedback import schema
from tutelage.feedback.io.importing import import_files
from tutelage.text.layouts import ABOUT, BESIDE, PAIR_NUMBERS
from tutelage.text.readers import LAYOUTS, Rejected, iter_judgements

from .test_importing import judged, rows_of, written

PYTHONS = re.compile(r"not supported between|unhashable|object is not|NoneType|has no attribute|indices must|unsupported operand|"
                     r"cannot be interpreted|could not convert|argument|"
                     r"\b(int|str|list|dict|float|bool)\b object|is (int|str|dict|float|bool),")
FIELDS = sorted({*ABOUT, *PAIR_NUMBERS, *BESIDE, "kind", "critique", "edit", "ranks", "rating", "label", "verdict", "model", "model_a",
                 "model_b", "judge", "metadata", "untold", "labels", "split", "time", "extra", "responses"})
_NUMBERS = st.integers() | st.just(10**400) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(st.booleans() | _NUMBERS | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["text", "model", "role", "sampling", "a"]), x,
                                                                        max_size=3), max_leaves=5)
JUDGED = sorted(name for name in ROWS if "judgements" in LAYOUTS[name].goals)


@st.composite
def odd_rows(draw):
    layout = draw(st.sampled_from([*JUDGED, *["judgement"] * 6]))
    row, kind = dict(ROWS[layout]), draw(st.sampled_from([None, "comparison", "label", "rating", "critique", "edit", "demonstration"]))
    if layout == "judgement" and kind:
        row |= {"kind": kind, "critique": "c", "edit": "e", "label": True, "rating": 3,
                "responses": row["responses"][:1] if kind != "comparison" else row["responses"]}
        row.pop("ranks", None) if kind != "comparison" else None
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
        row[field] = draw(JSON)
    if draw(st.booleans()):
        row = spoilt(row, draw(st.sampled_from([place for place in places(row) if place])), draw(JSON))
    return layout, row


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=odd_rows())
def test_any_value_in_any_field_comes_in_or_is_left_out_with_a_reason_in_people_s_words(fresh, tmp_path, found):
    layout, row = found
    path = written(tmp_path / "a.jsonl", ROWS[layout], row)          # the first is sound
    done = import_files(fresh(), path, layout=layout)
    assert done.read and not [why for why in done.rejected if PYTHONS.search(why) or not why.strip()], done.rejected
    left_out = [one.reason for one in iter_judgements(path, layout=layout) if isinstance(one, Rejected)]
    assert not [why for why in left_out if PYTHONS.search(why)], left_out


@pytest.mark.parametrize("who, name", [(7, "7"), (1.5, "1.5"), ("ann", "ann")])
def test_a_number_is_taken_as_the_name_of_a_labeler_a_group_and_a_model(store, tmp_path, who, name):
    row = judged(who, [0, 1], group=who) | {"responses": [{"text": "a", "model": who}, {"text": "b"}]}
    assert not import_files(store, written(tmp_path / "a.jsonl", row)).rejected
    [person], [answer, _] = rows_of(store, schema.labelers), rows_of(store, schema.responses)
    assert (person.name, person.group, answer.model) == (name, name, name)


@pytest.mark.parametrize("odd, why", [
    ({"labeler": True}, "labeler is true, not a name (text or a number)"), ({"labeler": {"a": 1}}, "labeler is an object, not a name"),
    ({"group": ["g"]}, "group is a list, not a name"), ({"weight": "1"}, 'weight is "1", not a finite number'),
    ({"responses": [{"text": "a", "model": {"x": 1}}, "b"]}, "model is an object, not a name"),
    ({"critique": 5}, "critique is 5, not text"),
    ({"kind": ["label"]}, "kind is a list, not text"), ({"sides": ["a", 1]}, "sides are a list, not an order of the answers"),
    ({"responses": [{"text": "a", "sampling": [1]}, "b"]}, "sampling of a response is a list, not an object"),
    ({"responses": [{"text": "a", "logprobs": 5}, "b"]}, "logprobs of a response are not a list of numbers"),
    ({"prompt": 5}, "prompt is 5, not text or a list of messages")])
def test_a_field_of_another_type_costs_its_row_alone_with_what_was_found_and_what_is_wanted(store, tmp_path, odd, why):
    rows = [judged(f"p{i}", [0, 1]) for i in range(3)]
    done = import_files(store, written(tmp_path / "a.jsonl", *rows[:2], rows[2] | odd, judged("bo", [1, 0])))
    assert done.new["judgements"] == 3 and [reason.startswith(why) for reason in done.rejected] == [True], done.rejected


@pytest.mark.parametrize("odd, why", [
    ({"winner": ["model_a"]}, "winner is a list, not one of model_a"), ({"tstamp": [1]}, "tstamp is a list, not a finite number"),
    ({"judge": {"a": 1}}, "judge is an object")])
def test_a_battle_of_odd_types_is_left_out_in_plain_words(store, tmp_path, odd, why):
    good = ROWS["arena-battle"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, [good, good | odd])))
    assert [reason.startswith(why) for reason in import_files(store, path).rejected] == [True]
