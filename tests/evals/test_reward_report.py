"""The reward model's page: accuracy, ceiling, baselines and calibration against scikit-learn and known worlds."""

import math

import numpy as np
import pytest
from scipy import optimize
from sklearn import calibration as sk_calibration
from sklearn import metrics

from tutelage.base.stats import wilson
from tutelage.evals import reward_report as rr


def labelled_world(n=4000, seed=0, scale=1.0):
    """Logits z with labels drawn from sigmoid(z); a model that reports scale * z is miscalibrated by exactly that factor."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    return scale * z, labels, 1 / (1 + np.exp(-z))


def test_pair_accuracy_is_wilson_on_plain_labels_and_halves_equal_scores():
    assert rr.pair_accuracy([1.0, 2.0, -1.0, 0.5]) == wilson(3, 4)
    assert rr.pair_accuracy([1.0, 0.0])["mean"] == 0.75


def test_soft_labels_give_soft_credit_and_ties_are_left_out():
    got = rr.pair_accuracy([1.0, -1.0, 1.0], targets=[0.8, 0.7, 0.5])
    assert got["mean"] == pytest.approx((0.8 + 0.3) / 2) and got["n"] == 2


def test_knowing_the_truth_reaches_the_bayes_ceiling_and_no_more():
    logits, labels, p = labelled_world(40000)
    margins = np.where(labels == 1, logits, -logits)           # chosen is whichever the label preferred
    got = rr.pair_accuracy(margins)
    assert got["low"] <= rr.bayes_ceiling(p) <= got["high"]
    assert rr.bayes_ceiling([0.5, 1.0, 0.2]) == pytest.approx((0.5 + 1.0 + 0.8) / 3)


def test_bins_split_every_pair_once_and_average_back_to_the_whole():
    rng = np.random.default_rng(1)
    margins = rng.normal(0.5, 1, 503)
    rows = rr.accuracy_by(margins, margins)
    assert sum(row["accuracy"]["n"] for row in rows) == 503
    whole = sum(row["accuracy"]["mean"] * row["accuracy"]["n"] for row in rows) / 503
    assert whole == pytest.approx(rr.pair_accuracy(margins)["mean"])
    assert [row["low"] for row in rows] == sorted(row["low"] for row in rows)


def test_bins_count_pairs_where_their_intervals_count_prompts():
    (row,) = rr.accuracy_by([1.0] * 6, [1.0, 1.0, -1.0, 1.0, 1.0, 1.0], targets=[1, 1, 1, 1, 0.5, 1], weights=[1, 1, 1, 1, 1, 0],
                            prompts=["a", "a", "a", "b", "b", "b"])
    assert row["pairs"] == 4 and row["accuracy"]["n"] == 2


def test_bins_survive_constant_and_empty_input():
    assert rr.accuracy_by([], []) == []
    assert [row["accuracy"]["n"] for row in rr.accuracy_by([1.0, 1.0], [1.0, -1.0])] == [2]


def test_temperature_finds_the_factor_by_which_a_model_is_over_confident():
    logits, labels, _ = labelled_world(60000, scale=3.0)
    assert rr.fit_temperature(logits, labels) == pytest.approx(3.0, rel=0.03)


def test_temperature_equals_scipy_minimum_and_is_undefined_where_there_is_none():
    logits, labels, _ = labelled_world(500, seed=2, scale=0.4)
    def loss(log_t):
        return metrics.log_loss(labels, 1 / (1 + np.exp(-logits / math.exp(log_t))))
    best = optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
    assert rr.fit_temperature(logits, labels) == pytest.approx(math.exp(best.x), rel=1e-5)
    assert math.isnan(rr.fit_temperature([1.0, 2.0], [1.0, 1.0]))
    assert math.isnan(rr.fit_temperature([1.0, -2.0], [0.0, 1.0]))


def test_reliability_bins_brier_and_log_loss_equal_sklearn():
    logits, labels, _ = labelled_world(1000, seed=3, scale=2.0)
    p = 1 / (1 + np.exp(-logits))
    got = rr.calibration(logits, labels, fold=False)
    observed, predicted = sk_calibration.calibration_curve(labels, p, n_bins=10, strategy="quantile")
    assert [row["confidence"] for row in got["bins"]] == pytest.approx(predicted)
    assert [row["accuracy"]["mean"] for row in got["bins"]] == pytest.approx(observed)
    assert got["brier"] == pytest.approx(metrics.brier_score_loss(labels, p))
    assert got["log_loss"] == pytest.approx(metrics.log_loss(labels, p))
    assert got["ece"] == pytest.approx(np.abs(observed - predicted).mean())
    assert got["log_loss_tempered"] < got["log_loss"]


def test_folding_does_not_depend_on_which_answer_is_called_chosen():
    logits, labels, _ = labelled_world(400, seed=4)
    flip = np.arange(400) % 2 == 0
    a = rr.calibration(logits, labels)
    b = rr.calibration(np.where(flip, -logits, logits), np.where(flip, 1 - labels, labels))
    assert a["ece"] == pytest.approx(b["ece"]) and a["brier"] == pytest.approx(b["brier"])
    assert min(row["confidence"] for row in a["bins"]) >= 0.5


def pair_rows(n, margins, gaps=None, **extra):
    rows = [{"chosen": "thanks for asking here is how", "rejected": "no", "chosen_score": m, "rejected_score": 0.0,
             "prompt": f"p{i // 2}", **extra} for i, m in zip(range(n), margins, strict=True)]
    return rows if gaps is None else [row | {"gold_gap": gap} for row, gap in zip(rows, gaps, strict=True)]


def test_pair_report_has_the_published_keys_and_tells_gold_from_labels():
    gaps = np.array([0.4] * 20 + [0.02] * 5 + [-0.3] * 5)       # the last five labels are wrong about gold
    rows = pair_rows(30, np.where(gaps > 0, 1.0, -1.0), gaps)
    report = rr.pair_report(rows, rows, preference_probabilities=[0.8] * 30)
    assert report["accuracy"]["mean"] == pytest.approx(25 / 30) and report["accuracy"]["n"] == 15
    assert report["accuracy_vs_gold"] == 1.0 and report["accuracy_vs_gold_ci"]["n"] == 13
    assert report["bayes_ceiling"] == pytest.approx(0.8)
    assert report["baselines"] == {"length": 1.0, "bag_of_words": 1.0}
    assert [row["low"] for row in report["by_gold_gap"]] == pytest.approx([0, 0.2, 0.4], abs=1e-8)


def test_gold_agreement_by_hand():
    report = rr.gold_report([1.0, -1.0, 0.0, 2.0], [0.5, 0.5, -0.5, -0.05])
    assert report["accuracy_vs_gold"] == 0.5 and report["accuracy_vs_gold_all"]["mean"] == pytest.approx(1.5 / 4)


def test_rescaling_scores_after_training_does_not_change_the_calibration():
    logits, labels, _ = labelled_world(300, seed=6)
    margins = np.where(labels == 1, logits, -logits)
    whole = rr.pair_report(pair_rows(300, margins))
    shrunk = rr.pair_report(pair_rows(300, margins / 5), scale=5.0)
    assert shrunk["calibration"]["ece"] == pytest.approx(whole["calibration"]["ece"])
    assert shrunk["accuracy"] == whole["accuracy"] and "baselines" not in shrunk


def test_label_report_equals_sklearn_and_its_baselines_learn_from_train_only():
    rng = np.random.default_rng(5)
    labels = rng.random(200) < 0.86
    scores = rng.normal(labels * 0.8, 1)
    held = [{"text": "good " * 3 if y else "bad", "label": bool(y), "score": s} for y, s in zip(labels, scores, strict=True)]
    report = rr.label_report(held, [{"text": "good good", "label": True}, {"text": "bad bad bad bad", "label": False}])
    assert report["auc"]["mean"] == pytest.approx(metrics.roc_auc_score(labels, scores))
    called = scores >= np.sort(scores)[::-1][labels.sum() - 1]
    assert report["balanced_accuracy"]["mean"] == pytest.approx(metrics.balanced_accuracy_score(labels, called))
    assert report["baselines"] == {"length": 0.0, "bag_of_words": 1.0}      # in train the longer one was bad


def test_every_interval_of_a_label_report_is_drawn_by_prompt():
    rng = np.random.default_rng(11)
    once = [{"prompt": i, "text": "", "label": bool(y), "score": rng.normal(y)} for i, y in enumerate(rng.random(80) < 0.6)]
    report = rr.label_report([row for row in once for _ in range(6)])
    assert report["auc"]["n"] == report["balanced_accuracy"]["n"] == 80
    assert sum(row["accuracy"]["n"] for row in report["calibration"]["bins"]) <= 80 + 9         # a prompt may lie in two bins


def test_the_length_baseline_goes_by_what_most_people_preferred_and_by_the_weight_of_their_labels():
    held = [{"chosen": "short", "rejected": "a longer one", "chosen_score": 1.0, "rejected_score": 0.0}]
    soft = [{"chosen": "a longer one", "rejected": "short", "target": 0.2}]                         # four of five liked the short one
    assert rr.pair_report(held, soft)["baselines"]["length"] == 1.0
    light = [{"chosen": "a longer one", "rejected": "short", "weight": 0.1}] * 2
    assert rr.pair_report(held, [*light, {"chosen": "short", "rejected": "a longer one"}])["baselines"]["length"] == 1.0


def test_labels_and_pairs_say_by_how_much_counting_words_is_beaten_prompt_by_prompt():
    labels = [True, False] * 20
    held = [{"prompt": i // 2, "text": "good" if y else "bad", "label": y, "score": float(not y)} for i, y in enumerate(labels)]
    report = rr.label_report(held, [{"text": "good", "label": True}, {"text": "bad", "label": False}])
    assert report["above_bag_of_words"]["mean"] == -1.0 and report["auc"]["n"] == 20
    pairs = [{"prompt": i, "chosen": "good", "rejected": "bad", "chosen_score": float(i % 2), "rejected_score": 0.5} for i in range(10)]
    above = rr.pair_report(pairs, pairs)["above_bag_of_words"]
    assert above["mean"] == -0.5 and above["low"] < -0.5 < above["high"] < 0


def test_the_lead_over_counting_words_is_the_difference_of_the_two_accuracies_however_pairs_lie_on_prompts():
    rng = np.random.default_rng(23)
    n = 60
    prompts = np.minimum(rng.integers(0, 30, n), 12).tolist()         # one prompt with most of the pairs
    margins, others, weights = rng.normal(size=n), rng.normal(size=n), rng.random(n)
    targets = rng.choice([1.0, 0.7, 0.5], size=n)
    own, other = (rr.pair_accuracy(m, targets=targets, weights=weights, prompts=prompts)["mean"] for m in (margins, others))
    found = rr.lead(margins, others, targets=targets, weights=weights, prompts=prompts)
    assert found["mean"] == pytest.approx(own - other, abs=1e-12) and found["low"] < found["mean"] < found["high"]


def test_the_lead_on_one_prompt_alone_has_no_interval():
    found = rr.lead([1.0, 1.0, -1.0], [1.0, -1.0, 1.0], targets=np.ones(3), weights=np.ones(3), prompts=["p", "p", "p"])
    assert found["mean"] == 0.0 and math.isnan(found["low"]) and math.isnan(found["high"])


def test_label_calibration_does_not_depend_on_where_the_scores_zero_is():
    logits, labels, _ = labelled_world(500, seed=7)
    a, b = (rr.label_report([{"text": "", "label": bool(y), "score": z + shift} for z, y in zip(logits, labels, strict=True)])
            for shift in (0.0, -4.0))
    assert a["calibration"]["ece"] == pytest.approx(b["calibration"]["ece"], abs=1e-9)


def test_empty_reports_are_undefined_and_bad_scores_are_named():
    assert math.isnan(rr.pair_report([])["accuracy"]["mean"]) and math.isnan(rr.label_report([])["auc"]["mean"])
    with pytest.raises(ValueError, match="chosen_score: 1 of 1"):
        rr.pair_report(pair_rows(1, [math.nan]))
