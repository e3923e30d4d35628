"""Accuracy per person, group and kind; concordance of ratings."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tutelage.base.stats import auc, wilson
from tutelage.evals.people import concordance, people_report


def row(right: float, prompt: str, labeler: str | None = "amara", group: str | None = "home", kind: str = "comparison",
        held_out: bool = False, weight: float = 1.0) -> dict:
    return {"right": right, "prompt": prompt, "labeler": labeler, "group": group, "kind": kind, "held_out": held_out, "weight": weight}


def test_accuracies_are_told_for_everybody_each_person_group_and_kind():
    rows = [*(row(i % 4 > 0, f"p{i}") for i in range(40)), *(row(i % 2, f"p{i}", "bo", "library", "ranking") for i in range(40)),
            *(row(1, f"p{i}", "chiyo", None, held_out=True) for i in range(8)), row(0, "p0", None, None)]
    found = people_report(rows)
    assert found["labelers"]["amara"] == wilson(30, 40) and found["labelers"]["bo"] == wilson(20, 40)
    assert list(found["labelers"]) == ["amara", "bo", "chiyo"] and set(found["groups"]) == {"home", "library"}
    assert found["kinds"]["ranking"]["mean"] == 0.5 and found["kinds"]["comparison"]["mean"] == 38 / 49
    assert found["all"]["mean"] == 58 / 89 and found["held_out_labelers"] == wilson(8, 8)
    assert found["training_labelers"]["mean"] == 50 / 81
    gap = found["gap"]
    assert gap["mean"] == pytest.approx(50 / 81 - 1) and gap["low"] < gap["mean"] < gap["high"] < 0


def test_without_held_out_labelers_there_is_no_gap_and_weights_count():
    found = people_report([row(1, "a", weight=3), row(0, "b"), row(0, "c", weight=0)])
    assert found["gap"] is None and math.isnan(found["held_out_labelers"]["mean"]) and found["all"]["mean"] == 0.75


def test_what_makes_a_prompt_hard_cancels_out_of_the_gap():
    rng = np.random.default_rng(0)
    hard = rng.random(200) < 0.5
    rows = [row(float(not h), f"{i}", held_out=held) for i, h in enumerate(hard) for held in (False, True)]
    assert people_report(rows)["gap"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 200}


def test_concordance_is_the_share_of_pairs_of_one_rater_in_the_right_order():
    rng = np.random.default_rng(1)
    scores, ratings, raters = rng.integers(0, 5, 60) / 2, rng.integers(1, 6, 60), rng.integers(0, 3, 60).tolist()
    pairs = [(i, j) for i, j in combinations(range(60), 2) if raters[i] == raters[j] and ratings[i] != ratings[j]]
    right = [0.5 + 0.5 * np.sign((scores[i] - scores[j]) * (ratings[i] - ratings[j])) for i, j in pairs]
    found = concordance(scores, ratings, raters=raters)
    assert found["mean"] == pytest.approx(np.mean(right)) and found["n"] == 60
    assert found["low"] < found["mean"] < found["high"]


def test_of_one_rater_with_two_ratings_it_is_the_auc_and_its_interval_is_that_of_delong():
    rng = np.random.default_rng(2)
    yes = rng.random(300) < 0.4
    scores = rng.normal(size=300) + yes
    found, delong = concordance(scores, yes.astype(float), raters=["x"] * 300), auc(yes, scores)
    assert found["mean"] == pytest.approx(roc_auc_score(yes, scores))
    assert found["high"] - found["low"] == pytest.approx(delong["high"] - delong["low"], rel=0.03)


def test_the_jackknife_leaves_whole_prompts_out():
    rng = np.random.default_rng(3)
    scores, ratings = rng.normal(size=40), rng.integers(1, 4, 40).astype(float)
    prompts = [f"{i // 2}" for i in range(40)]

    def without(prompt: str | None) -> float:
        keep = [i for i in range(40) if prompts[i] != prompt]
        return concordance(scores[keep], ratings[keep], raters=["x"] * len(keep))["mean"]

    left = np.array([without(p) for p in sorted(set(prompts))])
    spread = math.sqrt(19 / 20 * ((left - left.mean()) ** 2).sum())
    found = concordance(scores, ratings, raters=["x"] * 40, prompts=prompts)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(2.093024 * spread, rel=1e-6) and found["n"] == 20      # t(0.975, 19)


def test_where_nothing_can_be_known_it_says_so():
    assert math.isnan(concordance([1.0, 2.0], [3, 3], raters=["x", "x"])["mean"])
    assert math.isnan(concordance([1.0, 2.0], [3, 4], raters=["x", "y"])["mean"])
    assert concordance([1.0, 2.0, 3.0], [1, 2, 3], raters=["x"] * 3) == wilson(3, 3)
    assert math.isnan(concordance([], [], raters=[])["mean"])
