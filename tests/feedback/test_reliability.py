"""Reliability against crowd-kit, quadrature by scipy, and simulated labelers whose honesty is known."""

from __future__ import annotations

import choix
import numpy as np
import pandas as pd
import pytest
import scipy.integrate
from crowdkit.aggregation import DawidSkene as CrowdKit
from crowdkit.aggregation.pairwise.noisy_bt import NoisyBradleyTerry as CrowdKitNoisy
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.demo import panel
from tutelage.demo.people import choose, write_answer
from tutelage.demo.prompts import questions
from tutelage.feedback import noisy_bt
from tutelage.feedback.dawid_skene import dawid_skene
from tutelage.feedback.intervals import Statistic
from tutelage.feedback.labels import Labels
from tutelage.feedback.noisy_bt import noisy_bradley_terry
from tutelage.feedback.reliability import Skill, example_weights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:crowdkit", "ignore:.*(inplace|copy) keyword")


def votes(seed, items=120, overlap=3, right=(0.9, 0.8, 0.7, 0.6, 0.5), values=3):
    """(items, labelers, values, truth): labeler w is right with probability right[w], else says any other value."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, values, items)
    item = np.repeat(np.arange(items), overlap)
    labeler = np.concatenate([rng.permutation(len(right))[:overlap] for _ in range(items)])
    wrong = (truth[item] + rng.integers(1, values, item.size)) % values
    return item, labeler, np.where(rng.random(item.size) < np.asarray(right)[labeler], truth[item], wrong), truth


@pytest.mark.parametrize("seed", range(4))
def test_dawid_skene_equals_crowd_kit_step_for_step(seed):
    item, labeler, said, _ = votes(seed)
    found = dawid_skene(Labels.of(item.tolist(), labeler.tolist(), said.tolist()), smoothing=0.0, max_iterations=15, tolerance=0.0)
    theirs = CrowdKit(n_iter=15, tol=-np.inf)
    theirs.fit(pd.DataFrame({"task": item, "worker": labeler, "label": said}))
    expected = theirs.probas_.sort_index()[[0, 1, 2]].to_numpy()
    assert found.posterior == pytest.approx(expected, abs=1e-6)


def test_dawid_skene_beats_the_majority_where_labelers_differ():
    item, labeler, said, truth = votes(0, items=2000, right=(0.95, 0.95, 0.4, 0.4, 0.4))
    labels = Labels.of(item.tolist(), labeler.tolist(), said.tolist())
    majority = np.argmax(labels.counts() + np.random.default_rng(1).uniform(0, 0.01, (2000, 3)), axis=1)
    found = dawid_skene(labels)
    assert (found.posterior.argmax(1) == truth).mean() > (majority == truth).mean() + 0.1
    for skill in found.skills():                                    # right p of the time and 3 values: (3 p - 1) / 2
        assert skill.skill.value == pytest.approx((3 * (0.95, 0.95, 0.4, 0.4, 0.4)[skill.labeler] - 1) / 2, abs=0.08)
        assert skill.skill.low < skill.skill.value < skill.skill.high


def test_one_answer_to_everything_and_a_coin_have_no_skill_and_the_opposite_a_negative_one():
    rng = np.random.default_rng(5)
    truth = rng.random(600) < 0.2
    says = {"good": truth ^ (rng.random(600) < 0.1), "fair": truth ^ (rng.random(600) < 0.2), "fine": truth ^ (rng.random(600) < 0.2),
            "never": np.zeros(600, dtype=bool), "coin": rng.random(600) < 0.5, "liar": ~truth ^ (rng.random(600) < 0.1)}
    rows = [(i, name, bool(said[i])) for i in range(600) for name, said in says.items()]
    skill = {s.labeler: s.skill for s in dawid_skene(Labels.of(*zip(*rows, strict=True))).skills()}
    real = {name: said[truth].mean() - said[~truth].mean() for name, said in says.items()}             # sensitivity + specificity - 1
    assert {name: s.value for name, s in skill.items()} == pytest.approx(real, abs=0.06)
    assert real["never"] == 0 and abs(real["coin"]) < 0.15 and skill["liar"].high < -0.6


def test_gold_items_settle_who_is_right_where_a_majority_lies():
    rng = np.random.default_rng(6)
    truth = rng.random(200) < 0.5
    rows = [(i, w, bool(truth[i] ^ (w > 1) ^ (rng.random() < 0.1))) for i in range(200) for w in range(5)]             # three of five lie
    labels = Labels.of(*zip(*rows, strict=True))
    fooled = {s.labeler: s.skill.value for s in dawid_skene(labels).skills()}
    gold = {i: bool(truth[i]) for i in range(20)}
    told = {s.labeler: s.skill.value for s in dawid_skene(labels, known=gold).skills()}
    assert fooled[0] < 0 < fooled[4] and told[4] < 0 < told[0]
    items, people, won = zip(*rows, strict=True)
    fooled, told = ({s.labeler: s.skill.value for s in noisy_bradley_terry(items, people, won, known=k).skills} for k in ({}, gold))
    assert fooled[0] < 0 < fooled[4] and told[4] < 0 < told[0]


def test_what_is_not_known_of_a_newcomer_is_taken_from_all_together():
    rows = [(i, "old", i % 2) for i in range(8)] + [(8, "old", 1), (9, "old", 0), (0, "new", 1)]       # items 0 to 7 right, 8 and 9 wrong
    truth = {i: i % 2 for i in range(10)}
    found = dawid_skene(Labels.of(*zip(*rows, strict=True)), known=truth, smoothing=2.0)
    # Where the truth is 0 old says 0, 0, 0, 0, 1 and new says 1: together 4 of 6 say 0, which counts as two more items of each.
    assert found.confusion[:, 0, 0] == pytest.approx([(4 + 8 / 6) / 7, (8 / 6) / 3])
    assert found.confusion[1, 1] == pytest.approx([1 / 5, 4 / 5])   # never met a truth of 1: as all together


def test_a_model_with_nothing_to_learn_from_says_so():
    assert dawid_skene(Labels.of([], [], [])) == "no labels"
    assert dawid_skene(Labels.of(["i", "i"], ["a", "b"], ["yes", "yes"])) == "only one value occurs ('yes')"
    assert noisy_bradley_terry([], [], []) == "no comparisons"
    assert noisy_bradley_terry(["p", "q"], ["a", "b"], [True, False]) == "no pair was judged twice, and none has a known answer"
    alone = dawid_skene(Labels.of(["i", "i", "j"], ["a", "b", "c"], [1, 1, 2])).skills()[2]
    assert alone.labeler == "c" and alone.skill.value is None and "no item shared" in alone.skill.why


choices = st.tuples(st.sampled_from([-1.0, 1.0]), st.sampled_from([-1.0, 1.0]))


@settings(max_examples=100)
@given(choices, st.floats(0.01, 0.99), st.floats(-3, 3), st.floats(0.3, 4))
def test_without_opponents_a_choice_is_as_likely_as_in_crowd_kits_noisy_bradley_terry(choice, skill, bias, spread):
    fit = noisy_bt._Fit(np.array([0]), np.array([0]), np.array([choice[0]]), np.array([choice[1]]), np.ones((1, 20)), 1)
    fit.shares, fit.side_logit, fit.spread = np.array([[skill, 0.0, 1 - skill]]), np.array([bias]), spread
    ours = np.log(fit.terms().sum(0)[0])
    left, right = (1, 2) if choice[1] > 0 else (2, 1)                # the first answer is item 1
    for node, log_probability in zip(noisy_bt.NODES, ours, strict=True):
        x = np.array([0.0, node * spread, 0.0, bias, np.log(skill / (1 - skill))])
        data = np.array([[left, right, 1 if choice[0] > 0 else 2]])
        assert -CrowdKitNoisy._compute_log_likelihood(x, data, np.array([0]), 2, 1, 0.0) == pytest.approx(log_probability, abs=1e-9)


def test_twenty_nodes_integrate_a_pairs_lead_as_finely_as_scipy():
    wins = np.array([1.0, 1.0, -1.0, 1.0, 1.0])
    fit = noisy_bt._Fit(np.zeros(5, dtype=int), np.arange(5), wins, np.zeros(5), np.ones((1, 20)), 5)
    fit.shares, fit.spread = np.array([[0.9, 0.05, 0.05], [0.7, 0.1, 0.2], [0.8, 0.0, 0.2], [0.2, 0.6, 0.2], [0.5, 0.0, 0.5]]), 1.7
    found = fit.posterior()[0]

    def joint(d):
        follows = 1 / (1 + np.exp(-wins * d))
        return np.exp(-d * d / 2 / 1.7**2) * np.prod(fit.shares @ [1, 0, 0] * follows + fit.shares @ [0, 1, 0] * (1 - follows)
                                                     + fit.shares @ [0, 0, 1] / 2)

    whole, first = scipy.integrate.quad(joint, -12, 12)[0], scipy.integrate.quad(joint, 0, 12)[0]
    assert found[noisy_bt.NODES > 0].sum() == pytest.approx(first / whole, abs=0.01)
    mean = scipy.integrate.quad(lambda d: d * joint(d), -12, 12)[0] / whole
    assert found @ noisy_bt.NODES * 1.7 == pytest.approx(mean, abs=1e-3)


def test_the_lead_of_a_pair_judged_by_honest_people_is_that_of_choix():
    wins = np.array([1.0] * 5 + [-1.0] * 2)
    fit = noisy_bt._Fit(np.zeros(7, dtype=int), np.arange(7), wins, np.zeros(7), np.ones((1, 20)), 7)
    fit.shares, fit.spread = np.tile([1.0, 0.0, 0.0], (7, 1)), 1.7
    scores, _ = choix.ep_pairwise(2, [(0, 1)] * 5 + [(1, 0)] * 2, alpha=2 / 1.7**2, model="logit")     # two scores: twice the variance
    assert fit.posterior()[0] @ noisy_bt.NODES * 1.7 == pytest.approx(scores[0] - scores[1], abs=0.01)


PEOPLE = {"ann": (1.0, 0.0), "bob": (0.9, 0.1), "cai": (0.8, 0.2), "dee": (1.0, 0.0), "lazy": (0.0, 1.0), "liar": (-0.9, 0.1)}
"""name -> (honest, or below 0 against; clicks without looking, mostly on the left)."""


def judged(seed, pairs=1200, overlap=3, spread=2.0, left=0.8):
    """(pair, labeler, first_won, first_on_left, lead) of simulated comparisons."""
    rng = np.random.default_rng(seed)
    lead = rng.normal(0, spread, pairs)
    pair = np.repeat(np.arange(pairs), overlap)
    names = np.array(list(PEOPLE))
    who = np.concatenate([rng.permutation(len(names))[:overlap] for _ in range(pairs)])
    on_left = rng.random(pair.size) < 0.5
    true, clicks = (np.array([part[i] for part in PEOPLE.values()])[who] for i in (0, 1))
    follows = rng.random(pair.size) < 1 / (1 + np.exp(-np.sign(true) * lead[pair]))
    clicked = np.where(rng.random(pair.size) < left, on_left, ~on_left)
    return pair, names[who], np.where(rng.random(pair.size) < clicks, clicked, follows), on_left, lead


@pytest.mark.parametrize(("overlap", "within"), [(2, 0.12), (3, 0.08)])
def test_noisy_bradley_terry_recovers_how_often_each_labeler_chooses_the_better_answer(overlap, within):
    pair, labeler, won, on_left, lead = judged(1, pairs=2400, overlap=overlap)
    found = noisy_bradley_terry(pair.tolist(), labeler.tolist(), won, on_left)
    clarity = np.abs(np.tanh(np.random.default_rng(0).normal(0, 2.0, 400_000) / 2)).mean()
    for skill in found.skills:
        assert skill.skill.value == pytest.approx(PEOPLE[skill.labeler][0] * clarity, abs=within), skill
    by_name = {s.labeler: s for s in found.skills}
    assert by_name["liar"].skill.high < 0 and by_name["lazy"].skill.low < 0.1 < by_name["ann"].skill.low
    assert by_name["lazy"].left > 0.7
    assert ((found.first_better > 0.5) == (lead[np.array(found.pairs)] > 0)).mean() > 0.75


def test_the_skills_intervals_hold_the_truth():
    clarity = np.abs(np.tanh(np.random.default_rng(0).normal(0, 2.0, 400_000) / 2)).mean()
    held = [s.skill.low <= PEOPLE[s.labeler][0] * clarity <= s.skill.high
            for seed in range(12) for s in noisy_bradley_terry(*(part.tolist() for part in judged(seed, pairs=400)[:4])).skills]
    assert np.mean(held) > 0.88


def test_the_order_of_rows_and_which_answer_is_called_first_do_not_matter():
    pair, labeler, won, on_left, _ = judged(2, pairs=150)
    shuffled = np.random.default_rng(3).permutation(pair.size)
    swap = (pair % 3 == 0)[shuffled]
    one = noisy_bradley_terry(pair.tolist(), labeler.tolist(), won, on_left)
    two = noisy_bradley_terry(pair[shuffled].tolist(), [f"x{n}" for n in labeler[shuffled]], won[shuffled] ^ swap, on_left[shuffled] ^ swap)
    first, second = ({str(s.labeler).removeprefix("x"): s.skill.value for s in fit.skills} for fit in (one, two))
    assert first == pytest.approx(second, abs=1e-9)


def test_without_sides_the_skills_stay_and_nothing_is_said_of_them():
    pair, labeler, won, on_left, _ = judged(4)
    with_sides, without = (noisy_bradley_terry(pair.tolist(), labeler.tolist(), won, sides) for sides in (on_left, None))
    one, two = ({s.labeler: s.skill.value for s in fit.skills} for fit in (without, with_sides))
    assert one == pytest.approx(two, abs=0.06)
    assert all(s.left is None for s in without.skills)


def test_gold_pairs_tell_two_who_always_disagree_apart():
    rng = np.random.default_rng(7)
    first = rng.random(40) < 0.5
    pairs, labelers = [*range(40)] * 2, ["right"] * 40 + ["wrong"] * 40
    fit = noisy_bradley_terry(pairs, labelers, np.concatenate([first, ~first]), known={i: bool(first[i]) for i in range(15)})
    right, wrong = (s.skill for s in fit.skills)
    assert right.low > 0 > wrong.high


def test_the_careless_labeler_of_the_embedded_world_has_the_least_skill():
    rng, people = np.random.default_rng(11), panel.Panel(0)
    rows = []
    for i, question in enumerate(rng.choice(np.array(questions(), dtype=object), 300, replace=False)):
        answers = [write_answer(rng, question.item, choose(rng)) for _ in range(2)]
        for name in rng.permutation(people.names)[:2]:
            ranks = people.judge(question.text, answers, str(name), rng).ranks
            if ranks[0] != ranks[1]:
                rows.append((i, str(name), ranks[0] < ranks[1]))
    skills = {s.labeler: s.skill for s in noisy_bradley_terry(*zip(*rows, strict=True)).skills}
    assert min(skills, key=lambda name: skills[name].value) == "falk" and skills["falk"].low < 0.1
    assert all(skill.low > 0.2 for name, skill in skills.items() if name != "falk")


def skill(name, value, low, high, labels=50):
    return Skill(name, Statistic(value, labels, low, high) if value is not None else Statistic(None, 0, why="nothing shared"), labels)


def test_a_skill_becomes_a_weight_and_whoever_loses_weight_is_told():
    skills = [skill("good", 0.6, 0.5, 0.7), skill("fair", 0.3, 0.2, 0.4), skill("lazy", -0.1, -0.3, 0.1), skill("liar", -0.5, -0.6, -0.4),
              skill("new", None, None, None)]
    names = ["good", "fair", "lazy", "liar", "new", "good"]
    muted, flipped = example_weights(skills, names), example_weights(skills, names, opposed="flip")
    assert muted.weight == pytest.approx([1, 0.5, 0, 0, 0.1 / 0.6, 1]) and not muted.flipped.any()
    assert flipped.weight == pytest.approx([1, 0.5, 0, 0.5 / 0.6, 0.1 / 0.6, 1])
    assert flipped.flipped.tolist() == [False, False, False, True, False, False]
    assert [line.split(":")[0] for line in muted.told] == ["fair", "lazy", "liar", "new"]
    assert "weight 0.00 for 50 labels: skill -0.500 [-0.600, -0.400]" in muted.told[2] and "read as the opposite" in flipped.told[2]
    nothing = example_weights([skill("liar", -0.5, -0.6, -0.4)], ["liar"])
    assert nothing.weight.tolist() == [1.0] and "nothing is weighed" in nothing.told[0]


def fitted(x, won, weight):
    """Weighted logistic regression with a small ridge, by Newton -> coefficients."""
    w = np.zeros(x.shape[1])
    for _ in range(15):
        p = 1 / (1 + np.exp(-(x @ w)))
        w += np.linalg.solve((x.T * (weight * p * (1 - p))) @ x + 0.3 * np.eye(w.size), x.T @ (weight * (won - p)) - 0.3 * w)
    return w


def test_weights_win_back_what_one_careless_and_one_adversarial_labeler_in_six_cost():
    # A linear reward model of 20 features on 600 pairs, two labels each; how often it picks the better answer of 4,000 new pairs.
    gains = {"lost": [], "mute": [], "flip": []}
    for seed in range(10):
        rng = np.random.default_rng([seed, 8])
        pair, labeler, won, on_left, lead = judged(seed, pairs=600, overlap=2)
        truth = rng.normal(size=20)
        leads = np.concatenate([lead, rng.normal(0, 2, 4000)])
        features = rng.normal(size=(leads.size, 20))
        features += np.outer(leads - features @ truth, truth) / (truth @ truth)                        # features @ truth is the lead
        x, new = features[pair], features[600:]
        honest = np.where(np.isin(labeler, ["lazy", "liar"]), rng.random(pair.size) < 1 / (1 + np.exp(-lead[pair])), won)
        skills = noisy_bradley_terry(pair.tolist(), labeler.tolist(), won, on_left).skills

        def right(choices, weight, x=x, new=new, leads=leads):
            return float((np.sign(new @ fitted(x, choices, weight)) == np.sign(leads[600:])).mean())

        as_given = right(won, np.ones(pair.size))
        gains["lost"].append(right(honest, np.ones(pair.size)) - as_given)
        for opposed in ("mute", "flip"):
            w = example_weights(skills, labeler.tolist(), opposed=opposed)
            gains[opposed].append(right(won ^ w.flipped, w.weight) - as_given)
    lost, mute, flip = (float(np.mean(gains[name])) for name in ("lost", "mute", "flip"))
    assert lost > 0.05
    assert flip > 0.8 * lost and mute > 0.7 * lost                  # muting two of six cannot win back what their labels would have told
