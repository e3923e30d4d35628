"""Templates and examples-proportional mixing, against the formula of T5 and texts written by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small import write_rows
from tutelage.base.errors import DataError
from tutelage.text.mixes import Template, fill, mixing_rates, read_task, rows_of_mixture

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)
RTE = {"premise": "All dogs bark.", "hypothesis": "Rex, a dog, barks", "label": 0}
WORDS = {"label": {"0": "yes", "1": "no"}}


def epoch(sizes: list[int], cap: int, number: int, seed: int = 0) -> list[int]:
    """All rows of one epoch, read one row a step."""
    length = sum(min(size, cap) for size in sizes)
    return [int(rows_of_mixture(number * length + i, sizes, cap, 1, seed)[0]) for i in range(length)]


def test_rates_are_those_of_t5s_formula():
    # r_m = min(e_m, K) / sum of min(e_n, K): MNLI, RTE and CB of (Super)GLUE with FLAN's K = 3000.
    np.testing.assert_allclose(mixing_rates([392_702, 2_490, 250], 3_000), [3000 / 5740, 2490 / 5740, 250 / 5740], rtol=1e-15)
    np.testing.assert_allclose(mixing_rates([392_702, 2_490, 250], None), np.array([392_702, 2_490, 250]) / 395_442, rtol=1e-15)


@settings(max_examples=30)
@given(SIZES, st.integers(1, 20), st.integers(0, 5))
def test_an_epoch_holds_of_each_task_its_rows_or_the_cap_and_none_twice(sizes, cap, number):
    rows = epoch(sizes, cap, number)
    starts = np.cumsum([0, *sizes])
    found = Counter(int(np.searchsorted(starts, row, side="right")) - 1 for row in rows)
    assert found == {task: min(size, cap) for task, size in enumerate(sizes)}
    assert len(set(rows)) == len(rows) or any(size % min(size, cap) for size in sizes)  # where a task's last turn meets its next


@settings(max_examples=30)
@given(SIZES, st.integers(1, 20))
def test_every_row_of_a_task_has_its_turn_before_any_has_a_second(sizes, cap):
    seen = Counter(row for number in range(6) for row in epoch(sizes, cap, number))
    starts = np.cumsum([0, *sizes])
    for start, end in zip(starts, starts[1:], strict=False):
        counts = [seen[row] for row in range(start, end)]
        assert max(counts) - min(counts) <= 1


def test_a_step_is_a_slice_of_its_epoch_whole_batches_only():
    sizes, cap = [50, 7], 10                                         # 17 rows an epoch: four batches of 4, one row is dropped
    for number in (0, 3):
        whole = epoch(sizes, cap, number, seed=5)
        steps = [list(map(int, rows_of_mixture(4 * number + i, sizes, cap, 4, 5))) for i in range(4)]
        assert steps == [whole[i:i + 4] for i in range(0, 16, 4)]
    assert epoch(sizes, cap, 0, seed=5) != epoch(sizes, cap, 0, seed=6)


def test_a_template_is_filled_as_a_person_would():
    text = fill("{premise}\nDoes it follow that {hypothesis}? {{yes or no}}\n{options}", RTE, WORDS, ("yes", "no"))
    assert text == "All dogs bark.\nDoes it follow that Rex, a dog, barks? {yes or no}\n- yes\n- no"
    assert fill("{label}", RTE, WORDS) == "yes" and fill("{a.b} {a.c}", {"a": {"b": True, "c": 2.5}}, {}) == "true 2.5"


@pytest.mark.parametrize(("template", "row", "reason"), [
    ("{premise}", {"text": "x"}, "no field premise"), ("{label}", {"label": 7}, "label is '7', for which there is no word"),
    ("{a}", {"a": [1]}, "a is a list, not text or a number"), ("{a}", {"a": " "}, "the text is empty"),
    ("{a}", {"a": "x\0"}, "the text holds a NUL character"), ("{options}", {"a": "x"}, "no field options"),
    ("{a}", {"a": None}, "a is missing, not text")])
def test_a_row_that_does_not_fill_a_template_says_why(template, row, reason):
    with pytest.raises(ValueError, match=reason):
        fill(template, row, WORDS)


@pytest.mark.parametrize("text", ["{label", "label}", "{the label}", "{}", "{{label}", "{label}}", "{a{b}}"])
def test_a_brace_that_is_around_no_name_is_refused(text):
    for both in ((text, "x"), ("x", text)):
        with pytest.raises(ValueError, match="brace"):
            Template(*both)
    assert Template("{{x}} {a.b-c}", "{{").answer_field() is None and Template("x", "{a.b}").answer_field() == "a.b"


def test_each_row_gets_one_of_the_templates_and_its_choices(tmp_path):
    templates = [Template("{premise} So {hypothesis}?", "{label}"), Template("Say something that follows from: {premise}", "{hypothesis}")]
    file = write_rows(tmp_path / "rte.jsonl", [RTE | {"premise": f"Premise {i}."} for i in range(400)])
    task, _ = read_task("rte", [file], templates, WORDS, seed=3)
    first = [row.response == "yes" for row in task.rows]
    assert abs(sum(first) - 200) < 4 * 10                            # four standard deviations of a fair coin thrown 400 times
    assert [choices == ("yes", "no") for choices in task.choices] == first
    assert task.keys[:2] == ["Premise 0. Rex, a dog, barks yes", "Premise 1. Rex, a dog, barks yes"]     # whatever the template was
    again, other = (read_task("rte", [file], templates, WORDS, seed=seed)[0] for seed in (3, 4))
    assert again == task and other.rows != task.rows and other.keys == task.keys
    assert len(read_task("rte", [file], templates, WORDS, seed=3, limit=5)[0].rows) == 5


def test_rows_without_the_fields_are_counted_and_too_many_are_refused(tmp_path):
    templates = [Template("{premise}", "{label}")]
    task, rejected = read_task("rte", [write_rows(tmp_path / "a.jsonl", [RTE] * 19 + [{"label": 0}])], templates, WORDS, seed=0)
    assert len(task.rows) == 19 and [(r.line, r.reason.split(" (")[0]) for r in rejected] == [(20, "no field premise")]
    with pytest.raises(DataError, match=r"b\.jsonl:1: label is '2'.*3 of 4 rejected"):
        read_task("rte", [write_rows(tmp_path / "b.jsonl", [RTE | {"label": 2}] * 3 + [RTE])], templates, WORDS, seed=0)
    with pytest.raises(DataError, match="1 of 2 rejected"):
        read_task("rte", [write_rows(tmp_path / "b.jsonl", [RTE | {"label": 2}, RTE, RTE])], templates, WORDS, seed=0, limit=1)
    (tmp_path / "c.txt").write_text("words")
    with pytest.raises(DataError, match=r"c\.txt is plain text, which has no fields"):
        read_task("rte", [tmp_path / "c.txt"], templates, WORDS, seed=0)
