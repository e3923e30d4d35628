"""What a judgement may say, and how the page's order becomes the task's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.feedback import content, values
from tutelage.feedback.errors import ContentError

# Bai et al. 2022: eight steps from "A is better" to "B is better" without a middle; A is the first on the page.
SEEN_IN_ORDER = {1: ([0, 1], 4), 2: ([0, 1], 3), 3: ([0, 1], 2), 4: ([0, 1], 1),
                 5: ([1, 0], 1), 6: ([1, 0], 2), 7: ([1, 0], 3), 8: ([1, 0], 4)}


@pytest.mark.parametrize("choice", range(1, 9))
def test_the_eight_steps_speak_of_the_answers_whichever_was_on_the_left(choice):
    ranks, strength = SEEN_IN_ORDER[choice]
    assert values.stored("comparison", {"choice": choice}, [0, 1]) == {"ranks": ranks, "strength": strength, "step": choice}
    assert values.stored("comparison", {"choice": choice}, [1, 0]) == {"ranks": ranks[::-1], "strength": strength, "step": 9 - choice}


def test_tie_and_both_bad_are_told_apart():
    assert values.stored("comparison", {"tie": True}, [1, 0]) == {"ranks": [0, 0], "tie": True}
    assert values.stored("comparison", {"both_bad": True}, [1, 0]) == {"ranks": [0, 0], "both_bad": True}
    assert values.stored("comparison", {"choice": 1, "both_bad": True}, [0, 1])["ranks"] == [0, 1]


def test_a_ranking_is_of_the_answers_and_has_no_gaps():
    # On the page, the first (answer 2) was put last, the second (answer 0) first, the third (answer 1) between, tied with the fourth (3).
    assert values.stored("ranking", {"ranks": [9, 1, 5, 5]}, [2, 0, 1, 3]) == {"ranks": [0, 1, 2, 1]}


def test_marks_of_each_answer_follow_it():
    made = values.stored("ranking", {"ranks": [0, 1], "ratings": [7, None], "flags": [["violent", "sexual"], []]}, [1, 0])
    assert made == {"ranks": [1, 0], "ratings": [None, 7], "flags": [[], ["sexual", "violent"]]}


CHOICES = st.fixed_dictionaries({"choice": st.integers(1, 8)}, optional={"both_bad": st.just(True), "comment": st.just("so")})
COMPARISONS = st.one_of(CHOICES, st.just({"tie": True}), st.just({"both_bad": True}))


@given(value=COMPARISONS, sides=st.permutations([0, 1]))
def test_undo_shows_a_comparison_as_it_was_given(value, sides):
    assert values.shown("comparison", values.stored("comparison", value, sides), sides) == value


@given(data=st.data(), size=st.integers(2, 9))
def test_undo_shows_a_ranking_as_it_was_given(data, size):
    sides = data.draw(st.permutations(range(size)))
    ranks = data.draw(st.lists(st.integers(0, size - 1), min_size=size, max_size=size))
    dense = [sorted(set(ranks)).index(rank) for rank in ranks]
    flags = data.draw(st.lists(st.sampled_from([[], ["opinion"]]), min_size=size, max_size=size))
    stored = values.stored("ranking", {"ranks": ranks, "flags": flags}, sides)
    assert values.shown("ranking", stored, sides) == {"ranks": dense, "flags": flags}


@pytest.mark.parametrize(("kind", "value", "told"), [
    ("comparison", {}, "nothing was chosen"), ("comparison", {"choice": 9}, "choice is 9"), ("comparison", [1], "not an object"),
    ("comparison", {"choice": 4.5}, "choice is 4.5"), ("comparison", {"choice": "1"}, "choice is '1'"),
    ("comparison", {"choice": True}, "choice is True"),
    ("comparison", {"choice": 1, "tie": True}, "both a tie and a choice"), ("comparison", {"chioce": 1}, "did you mean choice"),
    ("ranking", {"ranks": [0]}, r"ranks is \[0\]"), ("ranking", {"ranks": [0, -1]}, "ranks is -1"), ("ranking", {}, "ranks is missing"),
    ("rating", {"rating": 8}, "rating is 8"), ("rating", {"rating": 3, "flags": ["rude"]}, "no flag 'rude'"),
    ("rating", {"rating": 3, "flags": "opinion"}, "not a list"), ("label", {"label": 1}, "label is 1"), ("edit", {}, "edit is missing"),
    ("critique", {"critique": "  "}, "is empty"), ("demonstration", {"text": ["a"]}, "text is"),
    ("prompt", {"text": "x", "style": "odd"}, "style is 'odd'"),
    ("prompt", {"text": "x", "examples": [{"prompt": "a"}]}, "examples are not"), ("conversation", {"rating": 5}, "rating is 5"),
    ("label", {"label": True, "comment": ""}, "comment is empty"), ("demonstration", {"text": "x" * 1_000_001}, "1,000,001 characters"),
])
def test_what_cannot_be_is_refused_by_name_in_one_line(kind, value, told):
    sides = [0, 1] if kind in ("comparison", "ranking") else [0] if kind in ("rating", "label", "critique", "edit") else []
    with pytest.raises(ContentError, match=told) as error:
        values.stored(kind, value, sides)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


NAMES = st.sampled_from(["choice", "ranks", "rating", "flags", "text", "comment", "tie", "x"])
DOCUMENTS = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                         lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=8)


@given(DOCUMENTS, st.sampled_from(sorted(content.ANSWERS)))
def test_any_document_is_taken_or_refused_but_never_breaks(document, kind):
    sides = list(range(content.ANSWERS[kind][0]))
    try:
        made = values.stored(kind, document, sides)
    except ContentError:
        return
    assert values.stored(kind, values.shown(kind, made, sides), sides) == made


def test_every_kind_of_task_has_its_values():
    assert set(values._OF_KIND) == set(values._MAY) == set(content.ANSWERS)
    assert len(values.FLAGS) == 11                                  # Ouyang et al. 2022, table 3
