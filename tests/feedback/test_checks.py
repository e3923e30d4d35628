"""Checks against scipy, statsmodels and labelers made to be found or left alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import Table

from tutelage.demo.panel import Panel
from tutelage.demo.people import choose, write_answer
from tutelage.demo.prompts import questions
from tutelage.feedback import checks


@settings(max_examples=100)
@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_sign_test_equals_scipy(case):
    k, n = case
    assert checks.sign_test(k, n) == pytest.approx(binomtest(k, n).pvalue if n else 1.0, abs=1e-9)


@settings(max_examples=60)
@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values):
    # By definition: a test stands if every set of tests that it belongs to is rejected by its smallest p-value times its size.
    sets = [c for size in range(1, len(p_values) + 1) for c in itertools.combinations(range(len(p_values)), size)]
    expected = [all(min(p_values[k] for k in c) <= 0.05 / len(c) for c in sets if i in c) for i in range(len(p_values))]
    assert checks.holm(p_values) == expected


def test_the_careless_labeler_of_the_embedded_world_is_found_by_speed_and_nobody_else_is():
    rng, people = np.random.default_rng(1), Panel(0)
    seconds, words, names = [], [], []
    for question in rng.choice(np.array(questions(), dtype=object), 150, replace=False):
        answers = [write_answer(rng, question.item, choose(rng)) for _ in range(2)]
        for name in people.names:
            judged = people.judge(question.text, answers, name, rng)
            seconds.append(judged.seconds)
            words.append(sum(len(text.split()) for text in (question.text, *answers)))
            names.append(name)
    assert [s.labeler for s in checks.speed(seconds, words, names) if s.flagged] == ["falk"]


def test_a_side_is_found_and_fair_labelers_are_left_alone():
    rng = np.random.default_rng(2)
    people = {"left-handed": 0.7, **{f"fair {i}": 0.5 for i in range(9)}}
    rows = [(name, rng.random() < p) for name, p in people.items() for _ in range(200)]
    names, left = zip(*rows, strict=True)
    found = {s.labeler: s for s in checks.position_bias(left, names)}
    assert [name for name, s in found.items() if s.flagged] == ["left-handed"]
    lefts = sum(chose for name, chose in rows if name == "fair 0")
    assert found["fair 0"].p_value == pytest.approx(binomtest(lefts, 200).pvalue) and found["fair 0"].left.value == lefts / 200


def test_flags_raised_where_nobody_deserves_one_are_as_rare_as_stated():
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(8), 60).tolist()
    alarms = [any(s.flagged for s in checks.position_bias(rng.random(480) < 0.5, names)) for _ in range(300)]
    lines = [any(s.flagged for s in checks.straight_lining(rng.integers(0, 5, 480).tolist(), names)) for _ in range(100)]
    assert np.mean(alarms) <= 0.08 and np.mean(lines) <= 0.1


def test_a_straight_line_is_found_with_its_length():
    rng = np.random.default_rng(4)
    positions = [*rng.integers(1, 8, 100).tolist(), *([6] * 12), *rng.integers(1, 8, 88).tolist(), *rng.integers(1, 8, 200).tolist()]
    bored, awake = checks.straight_lining(positions, ["bored"] * 200 + ["awake"] * 200)
    run = max((len(list(group)), key) for key, group in itertools.groupby(positions[:200]))
    assert (bored.longest, bored.position, bored.flagged) == (*run, True) and not awake.flagged
    always = checks.straight_lining(["B"] * 30 + ["A", "B"] * 15, ["same"] * 30 + ["other"] * 30)[0]
    assert (always.bits, always.longest, always.flagged) == (0.0, 30, True)
    assert awake.bits == pytest.approx(math.log2(7), abs=0.1)


def test_the_bound_on_runs_is_not_below_their_simulated_frequency():
    rng = np.random.default_rng(5)
    rows = rng.random((4000, 100)) < 0.5
    longest = [max(len(list(group)) for _, group in itertools.groupby(row)) for row in rows]
    others = np.tile([True, False], 5000)
    for length in (9, 11):
        row = next(row for row, long in zip(rows, longest, strict=True) if long == length)
        line = checks.straight_lining([*row.tolist(), *others.tolist()], ["one"] * 100 + ["other"] * 10_000)[0]
        frequency = np.mean([long >= length for long in longest])
        assert frequency * 0.9 <= line.p_value <= 1.4 * frequency + 0.01


def test_near_copies_name_what_they_repeat():
    model = "Boil the water, warm the pot, add one spoon of tea for each person and wait for four minutes."
    texts = [model.replace("Boil", "boil,").upper(), "Sow the carrots thinly in spring.", "Sow the carrots  thinly, in spring!", "Read it."]
    assert checks.near_copies(texts, [model]) == [model, None, texts[1], None]
    assert checks.near_copies([]) == []


def test_a_voter_against_everybody_is_found_and_false_alarms_keep_to_their_bound():
    rng = np.random.default_rng(6)
    rate = rng.uniform(0.6, 0.95, 12)                               # how often the first answer of each pair wins
    alarms, found = [], []
    for _ in range(60):
        pairs, names = rng.integers(0, 12, 800), rng.integers(0, 20, 800)
        won = rng.random(800) < rate[pairs]
        won[names == 0] = ~won[names == 0]
        tests = {t.labeler: t for t in checks.votes_against_everybody(pairs.tolist(), won, names.tolist())}
        found.append(tests[0].flagged)
        alarms.append(any(t.flagged for name, t in tests.items() if name != 0))
    assert np.mean(found) > 0.95 and np.mean(alarms) <= 0.05


def test_the_evidence_is_the_product_of_fastchats_factors():
    pairs, names = ["p"] * 6, ["x", "y", "z", "w", "v", "me"]
    tests = {t.labeler: t for t in checks.votes_against_everybody(pairs, [True] * 5 + [False], names)}
    assert tests["me"].evidence == pytest.approx(1 / (2 * (1 / 6)))                    # nobody else says so: p = (1 + 0) / (5 + 1)
    assert tests["x"].evidence == pytest.approx(1 / (2 * 5 / 6))
    assert tests["me"].p_value == pytest.approx(2 / 3) and not tests["me"].flagged


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_drift_is_the_trend_test_of_statsmodels(slope):
    rng = np.random.default_rng(7)
    week = np.repeat(np.arange(8), 60)
    won = rng.random(480) < 0.5 + slope * week
    at = week * 7.0 + rng.random(480) * 6.9
    at[0] = 0.0
    found = checks.drift(won, at, 7.0)
    table = np.stack([np.bincount(week, ~won), np.bincount(week, won)], axis=1)
    expected = Table(table).test_ordinal_association()
    assert found.z == pytest.approx(expected.zscore, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert len(found.periods) == 8 and found.periods[3][1].value == pytest.approx(won[week == 3].mean())
    assert found.flagged == (slope > 0)


def test_a_drift_that_cannot_be_told_says_why():
    assert checks.drift([], [], 1.0) == "no judgements of fixed pairs"
    assert checks.drift([True, False], [0.0, 0.5], 1.0) == "all judgements of fixed pairs lie in one period"
    assert checks.drift([True, True], [0.0, 5.0], 1.0) == "all fixed pairs were judged alike"


@pytest.mark.parametrize("check", [checks.position_bias, checks.straight_lining])
def test_nobody_is_checked_where_there_is_nothing(check):
    assert check([], []) == [] == checks.speed([], [], []) == checks.votes_against_everybody([], [], [])
