"""Losses of the reward model against sklearn, explicit enumeration, optima and invariances."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logit
from scipy.stats import logistic
from sklearn.metrics import log_loss
from torch.autograd import gradcheck
from torch.testing import assert_close

from tutelage.algos.losses import binary_reward_loss, bradley_terry_loss, cumulative_link_loss, ordered_thresholds, ranking_loss

NAN = float("nan")
TIES = ["drop", "half", "davidson"]


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rand(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CHOSEN, REJECTED, TARGET, MARGIN, WEIGHT = randn(9, seed=1), randn(9, seed=2), rand(9, seed=3), randn(9, seed=4), rand(9, seed=5)
SCORES = randn(5, 4, seed=6)
RANKS = torch.tensor([[0, 1, 2, 3], [2, 0, 1, 1], [0, 0, 0, 0], [1, -1, 0, 1], [-1, 0, -1, 1]])


def sklearn_soft_log_loss(logits: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """sklearn takes hard labels, so each row enters twice: as a yes with weight P and as a no with weight 1 - P."""
    p = 1 / (1 + np.exp(-logits))
    return log_loss(np.repeat([1, 0], len(p)), np.tile(p, 2), sample_weight=np.concatenate([weight * target, weight * (1 - target)]))


def test_bradley_terry_equals_sklearn_with_soft_targets_margins_and_weights():
    logits = (CHOSEN - REJECTED - MARGIN).numpy()
    ours = bradley_terry_loss(CHOSEN, REJECTED, target=TARGET, margin=MARGIN, weight=WEIGHT)
    assert_close(ours.item(), sklearn_soft_log_loss(logits, TARGET.numpy(), WEIGHT.numpy()), rtol=0, atol=1e-12)


def test_bradley_terry_of_plain_pairs_is_the_mean_of_log_one_plus_exp_of_minus_the_difference():
    expected = np.log1p(np.exp(-(CHOSEN - REJECTED).numpy())).mean()
    assert_close(bradley_terry_loss(CHOSEN, REJECTED).item(), expected, rtol=0, atol=1e-12)
    equal = torch.zeros(3, dtype=torch.float64)
    assert_close(bradley_terry_loss(equal, equal).item(), math.log(2), rtol=0, atol=1e-15)


@pytest.mark.parametrize("target, margin", [(0.9, 0.0), (0.2, 0.0), (0.7, 1.5), (0.5, -0.4)])
def test_the_minimum_of_bradley_terry_is_at_the_margin_plus_the_log_odds_of_the_target(target, margin):
    def loss(difference: float) -> float:
        one = torch.tensor([difference], dtype=torch.float64)
        return bradley_terry_loss(one, torch.zeros_like(one), target=target, margin=margin).item()

    assert_close(minimize_scalar(loss, bracket=(-1, 1), tol=1e-10).x, margin + logit(target), rtol=0, atol=1e-6)


def test_swapping_the_sides_of_a_pair_with_its_target_and_margin_changes_nothing():
    swapped = bradley_terry_loss(REJECTED, CHOSEN, target=1 - TARGET, margin=-MARGIN, weight=WEIGHT)
    assert_close(swapped, bradley_terry_loss(CHOSEN, REJECTED, target=TARGET, margin=MARGIN, weight=WEIGHT), rtol=0, atol=1e-12)


def test_only_differences_of_scores_matter_to_pairs_and_rankings():
    assert_close(bradley_terry_loss(CHOSEN + 7, REJECTED + 7), bradley_terry_loss(CHOSEN, REJECTED), rtol=0, atol=1e-12)
    per_prompt = torch.arange(5.0, dtype=torch.float64)[:, None]
    for ties in TIES:
        assert_close(ranking_loss(SCORES + per_prompt, RANKS, ties=ties), ranking_loss(SCORES, RANKS, ties=ties), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fact_36_the_logistic_loss_does_not_overflow(dtype):
    high = torch.tensor([1e4], dtype=dtype, requires_grad=True)
    low = torch.zeros(1, dtype=dtype)
    lost = bradley_terry_loss(low, high)                            # log(1 + exp(1e4)) = 1e4
    lost.backward()
    assert lost.item() == 1e4 and high.grad.item() == 1.0
    assert bradley_terry_loss(high, low).item() == 0.0
    assert binary_reward_loss(-high, torch.ones(1)).item() == 1e4
    for ties in TIES:
        assert ranking_loss(torch.stack([low, high], 1), torch.tensor([[0, 1]]), ties=ties).item() == 1e4


def test_a_confident_loss_keeps_its_digits():
    # At a difference of 25 the loss is exp(-25) to 11 digits; softplus with its threshold of 20 gives 0 there.
    one = torch.tensor([25.0], dtype=torch.float64)
    assert_close(bradley_terry_loss(one, torch.zeros_like(one)).item(), math.exp(-25), rtol=1e-10, atol=0)


def slow_ranking_loss(scores, ranks, ties, weight, log_nu=0.0) -> float:
    """Every pair written out. Davidson: three outcomes with weights sqrt(a/b), nu, sqrt(b/a) where a = e^score."""
    total = heard = 0.0
    for s, r, w in zip(scores.tolist(), ranks.tolist(), weight.tolist(), strict=True):
        losses = []
        for i, j in combinations(range(len(s)), 2):
            if r[i] < 0 or r[j] < 0 or (ties == "drop" and r[i] == r[j]):
                continue
            a, b = math.exp(s[i]), math.exp(s[j])
            p_i, p_j, p_tie = a / (a + b), b / (a + b), None
            if ties == "davidson":
                tie_weight = math.exp(log_nu) * math.sqrt(a * b)
                p_i, p_j, p_tie = (x / (a + b + tie_weight) for x in (a, b, tie_weight))
            if r[i] == r[j]:
                losses.append(-math.log(p_tie) if ties == "davidson" else -0.5 * (math.log(p_i) + math.log(p_j)))
            else:
                losses.append(-math.log(p_i if r[i] < r[j] else p_j))
        if losses:
            total, heard = total + w * np.mean(losses), heard + w
    return total / heard


@pytest.mark.parametrize("ties", TIES)
def test_the_ranking_loss_matches_a_loop_over_all_pairs(ties):
    ours = ranking_loss(SCORES, RANKS, ties=ties, weight=WEIGHT[:5], davidson_log_nu=-0.7)
    assert_close(ours.item(), slow_ranking_loss(SCORES, RANKS, ties, WEIGHT[:5], -0.7), rtol=0, atol=1e-12)
    assert_close(ranking_loss(SCORES, RANKS, ties=ties).item(), slow_ranking_loss(SCORES, RANKS, ties, torch.ones(5)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", ["drop", "half"])
def test_two_answers_in_a_ranking_are_a_bradley_terry_pair(ties):
    scores = torch.stack([CHOSEN, REJECTED], 1)
    expected = bradley_terry_loss(CHOSEN, REJECTED, weight=WEIGHT)
    assert_close(ranking_loss(scores, torch.tensor([[0, 1]] * 9), weight=WEIGHT, ties=ties), expected, rtol=0, atol=1e-12)
    assert_close(ranking_loss(scores.flip(1), torch.tensor([[4, 2]] * 9), weight=WEIGHT, ties=ties), expected, rtol=0, atol=1e-12)
    tied = ranking_loss(scores, torch.zeros(9, 2, dtype=torch.long), weight=WEIGHT, ties="half")
    assert_close(tied, bradley_terry_loss(CHOSEN, REJECTED, target=0.5, weight=WEIGHT), rtol=0, atol=1e-12)


def test_fact_24_a_prompt_with_many_answers_weighs_as_much_as_one_with_two():
    # At equal scores every pair pulls by 1/2; averaged over its prompt's pairs, the best answer of K gets the same pull for any K.
    for k in (2, 4, 6):
        scores = torch.zeros(1, k, dtype=torch.float64, requires_grad=True)
        loss = ranking_loss(scores, torch.arange(k)[None])
        assert_close(loss.item(), math.log(2), rtol=0, atol=1e-12)
        loss.backward()
        assert_close(scores.grad[0, 0].item(), -0.5 * (k - 1) / (k * (k - 1) / 2), rtol=0, atol=1e-12)


def test_a_prompt_whose_answers_are_all_tied_says_nothing_when_ties_are_dropped():
    scores = SCORES[2:3].clone().requires_grad_()
    loss = ranking_loss(scores, RANKS[2:3])
    loss.backward()
    assert loss.item() == 0.0 and (scores.grad == 0).all()
    for ties in ("half", "davidson"):
        pulled = SCORES[2:3].clone().requires_grad_()
        ranking_loss(pulled, RANKS[2:3], ties=ties).backward()
        assert pulled.grad[0, pulled.argmax()] > 0 > pulled.grad[0, pulled.argmin()]       # pulled together


def test_davidson_without_ties_is_bradley_terry_and_at_nu_one_equals_tie_a_third_of_the_time():
    strict = RANKS[:1]
    never = ranking_loss(SCORES[:1], strict, ties="davidson", davidson_log_nu=-80.0)
    assert_close(never, ranking_loss(SCORES[:1], strict), rtol=0, atol=1e-12)
    equal = torch.zeros(1, 2, dtype=torch.float64)
    for ranks in ([[0, 0]], [[0, 1]], [[1, 0]]):
        assert_close(ranking_loss(equal, torch.tensor(ranks), ties="davidson").item(), math.log(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", TIES)
def test_a_margin_is_what_a_decided_pair_asks_for_on_top_whoever_stands_first(ties):
    pair, margin = torch.stack([CHOSEN, REJECTED], 1), MARGIN.abs()
    shifted = torch.stack([CHOSEN - margin, REJECTED], 1)            # asking for m more is the same as being m worse
    first, second = torch.tensor([[0, 1]] * 9), torch.tensor([[1, 0]] * 9)
    expected = ranking_loss(shifted, first, ties=ties, weight=WEIGHT)
    assert_close(ranking_loss(pair, first, ties=ties, weight=WEIGHT, margin=margin), expected, rtol=0, atol=1e-12)
    assert_close(ranking_loss(pair.flip(1), second, ties=ties, weight=WEIGHT, margin=margin), expected, rtol=0, atol=1e-12)
    tied = torch.zeros(9, 2, dtype=torch.long)
    assert_close(ranking_loss(pair, tied, ties=ties, margin=margin), ranking_loss(pair, tied, ties=ties), rtol=0, atol=1e-12)


RATINGS = torch.tensor([0, 1, 2, 3, 4, 4, 0, 2, 3])
THRESHOLDS = ordered_thresholds(randn(9, 1, seed=7) - 1, randn(9, 3, seed=8) / 2)             # (9, 4): five steps, nine people


def test_a_rating_is_likely_as_the_logistic_distribution_between_its_thresholds():
    edges = np.pad(THRESHOLDS.numpy(), ((0, 0), (1, 1)), constant_values=((0, 0), (-np.inf, np.inf)))
    rows, r = np.arange(9), RATINGS.numpy()
    p = logistic.cdf(edges[rows, r + 1] - CHOSEN.numpy()) - logistic.cdf(edges[rows, r] - CHOSEN.numpy())
    expected = -(WEIGHT.numpy() @ np.log(p)) / WEIGHT.sum().item()
    assert_close(cumulative_link_loss(CHOSEN, RATINGS, THRESHOLDS, weight=WEIGHT).item(), expected, rtol=0, atol=1e-12)


def test_the_probabilities_of_all_ratings_sum_to_one():
    p = sum(torch.exp(-cumulative_link_loss(CHOSEN[i:i + 1], torch.tensor([r]), THRESHOLDS[i:i + 1])) for r in range(5) for i in range(9))
    assert_close(p.item(), 9.0, rtol=0, atol=1e-12)


def test_a_scale_of_two_steps_is_a_yes_or_no_and_turning_the_scale_round_turns_the_scores():
    yes = RATINGS > 1
    assert_close(cumulative_link_loss(CHOSEN, yes.long(), torch.zeros(1, dtype=torch.float64), weight=WEIGHT),
                 binary_reward_loss(CHOSEN, yes, weight=WEIGHT), rtol=0, atol=1e-12)
    assert_close(cumulative_link_loss(-CHOSEN, 4 - RATINGS, -THRESHOLDS.flip(1)), cumulative_link_loss(CHOSEN, RATINGS, THRESHOLDS),
                 rtol=0, atol=1e-12)
    assert_close(cumulative_link_loss(CHOSEN + 3, RATINGS, THRESHOLDS + 3), cumulative_link_loss(CHOSEN, RATINGS, THRESHOLDS),
                 rtol=0, atol=1e-12)


def test_ratings_fitted_alone_agree_with_statsmodels():
    ordinal = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    rng = np.random.default_rng(3)
    x = rng.normal(size=400)
    r = np.searchsorted([-1.0, 0.2, 1.5], 1.3 * x + rng.logistic(size=400))
    theirs = ordinal.OrderedModel(r, x[:, None], distr="logit").fit(method="bfgs", disp=False, gtol=1e-8)
    slope, first, *gaps = theirs.params                              # theirs: P(r <= k) = s(threshold - slope x), gaps as logs
    ours = cumulative_link_loss(torch.tensor(slope * x), torch.tensor(r),
                                ordered_thresholds(torch.tensor([first]), torch.tensor(gaps)))
    assert_close(ours.item(), -theirs.llf / 400, rtol=0, atol=1e-9)
    at = torch.tensor(theirs.params, requires_grad=True)
    cumulative_link_loss(at[0] * torch.tensor(x), torch.tensor(r), ordered_thresholds(at[1:2], at[2:])).backward()
    assert at.grad.abs().max() < 1e-5                                # their optimum is a stationary point of our loss


@pytest.mark.parametrize("score", [-1e4, 1e4])
def test_a_rating_far_from_its_score_costs_their_distance_and_no_overflow(score):
    one = torch.tensor([score], dtype=torch.float64, requires_grad=True)
    lost = cumulative_link_loss(one, torch.tensor([1]), torch.tensor([0.0, 1.0], dtype=torch.float64))
    lost.backward()
    near = 1.0 if score > 0 else 0.0
    assert_close(lost.item(), abs(score - near) - math.log(-math.expm1(-1)), rtol=1e-12, atol=0)
    assert one.grad.item() == math.copysign(1.0, score)


def test_ratings_off_the_scale_and_thresholds_out_of_order_are_refused():
    for rating in (-1, 5):
        with pytest.raises(ValueError, match="do not lie on a scale of 0 to 4"):
            cumulative_link_loss(CHOSEN[:1], torch.tensor([rating]), THRESHOLDS[:1])
    with pytest.raises(ValueError, match="thresholds do not increase"):
        cumulative_link_loss(CHOSEN, RATINGS, THRESHOLDS.flip(1))
    with pytest.raises(ValueError, match="unequal shapes"):
        cumulative_link_loss(CHOSEN, RATINGS[1:], THRESHOLDS)


def test_gradients_pass_finite_differences():
    first, gaps = randn(9, 1, seed=7).requires_grad_(), randn(9, 3, seed=8).requires_grad_()
    assert gradcheck(lambda x, f, g: cumulative_link_loss(x, RATINGS, ordered_thresholds(f, g), weight=WEIGHT),
                     (CHOSEN.clone().requires_grad_(), first, gaps))
    a, b = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    assert gradcheck(lambda x, y: bradley_terry_loss(x, y, target=TARGET, margin=MARGIN, weight=WEIGHT), (a, b))
    assert gradcheck(lambda x: binary_reward_loss(x, TARGET, weight=WEIGHT), a)
    scores, log_nu = SCORES.clone().requires_grad_(), torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)
    for ties in ("drop", "half"):
        assert gradcheck(lambda x, ties=ties: ranking_loss(x, RANKS, ties=ties), scores)
    assert gradcheck(lambda x, nu: ranking_loss(x, RANKS, ties="davidson", davidson_log_nu=nu), (scores, log_nu))


@pytest.mark.parametrize("ties", TIES)
def test_absent_answers_may_hold_nan_and_add_nothing(ties):
    dirty = torch.where(RANKS >= 0, SCORES, NAN).requires_grad_()
    clean = SCORES.clone().requires_grad_()
    for scores in (dirty, clean):
        ranking_loss(scores, RANKS, ties=ties).backward()
    assert torch.equal(dirty.grad, clean.grad)
    wide = [torch.nn.functional.pad(x, (0, 2), value=v) for x, v in ((SCORES, NAN), (RANKS, -1))]
    assert_close(ranking_loss(*wide, ties=ties), ranking_loss(SCORES, RANKS, ties=ties), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", TIES)
def test_the_order_of_answers_and_of_prompts_is_irrelevant(ties):
    rows, columns = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    shuffled = ranking_loss(SCORES[rows][:, columns], RANKS[rows][:, columns], ties=ties, weight=WEIGHT[:5][rows])
    assert_close(shuffled, ranking_loss(SCORES, RANKS, ties=ties, weight=WEIGHT[:5]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("labels", [TARGET, TARGET > 0.5])
def test_binary_ratings_equal_sklearn(labels):
    ours = binary_reward_loss(CHOSEN, labels, weight=WEIGHT)
    assert_close(ours.item(), sklearn_soft_log_loss(CHOSEN.numpy(), labels.double().numpy(), WEIGHT.numpy()), rtol=0, atol=1e-12)


def test_the_best_constant_score_for_ratings_is_the_log_odds_of_yes():
    labels = torch.tensor([1, 1, 1, 0], dtype=torch.bool)

    def loss(score: float) -> float:
        return binary_reward_loss(torch.full((4,), score, dtype=torch.float64), labels).item()

    assert_close(minimize_scalar(loss, bracket=(-1, 1), tol=1e-10).x, math.log(3), rtol=0, atol=1e-6)


def test_fact_34_micro_batches_given_the_count_of_the_step_add_up_to_the_batch():
    total = WEIGHT.sum()
    pairs = sum(bradley_terry_loss(CHOSEN[i : i + 1], REJECTED[i : i + 1], weight=WEIGHT[i : i + 1], num_examples=total) for i in range(9))
    assert_close(pairs, bradley_terry_loss(CHOSEN, REJECTED, weight=WEIGHT), rtol=0, atol=1e-12)
    ratings = sum(binary_reward_loss(CHOSEN[i : i + 1], TARGET[i : i + 1], num_examples=9) for i in range(9))
    assert_close(ratings, binary_reward_loss(CHOSEN, TARGET), rtol=0, atol=1e-12)
    rankings = sum(ranking_loss(SCORES[p : p + 1], RANKS[p : p + 1], num_examples=4) for p in range(5))   # prompt 2 is all ties
    assert_close(rankings, ranking_loss(SCORES, RANKS), rtol=0, atol=1e-12)


def test_a_weight_of_zero_removes_a_row_and_a_weight_of_two_is_the_row_twice():
    weight = torch.tensor([1.0, 0, 2, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    rows = torch.tensor([0, 2, 2, 3, 4, 5, 6, 7, 8])
    assert_close(bradley_terry_loss(CHOSEN, REJECTED, weight=weight), bradley_terry_loss(CHOSEN[rows], REJECTED[rows]), rtol=0, atol=1e-12)
    assert bradley_terry_loss(CHOSEN, REJECTED, weight=torch.zeros(9)).item() == 0.0


def test_unequal_shapes_and_unknown_ties_are_refused():
    for call in (lambda: bradley_terry_loss(CHOSEN, REJECTED[1:]), lambda: bradley_terry_loss(CHOSEN, REJECTED, weight=WEIGHT[:, None]),
                 lambda: binary_reward_loss(CHOSEN, TARGET[1:]), lambda: ranking_loss(SCORES, RANKS[:, 1:])):
        with pytest.raises(ValueError, match="unequal shapes"):
            call()
    with pytest.raises(ValueError, match="ties='keep' is not one of"):
        ranking_loss(SCORES, RANKS, ties="keep")
