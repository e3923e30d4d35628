"""The task: every response once, probabilities that sum to 1, and log-probs that the shipped code agrees with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import softmax

from tutelage.base.records import Completion
from tutelage.models.policy import token_logprobs
from tutelage.proofs.methods import TOLERANCE
from tutelage.proofs.task import EOS, MAX_TOKENS, PAD, PROMPT, all_responses, make_task, response_logprobs, tiny_tokenizer
from tutelage.rollout import InProcessEngine, Rollout, Sampling


def test_responses_are_all_there_once():
    responses = all_responses()
    assert len(set(responses)) == len(responses) == 1 + 4 + 16 + 64             # EOS at once, second or third; never
    assert all(len(r) <= MAX_TOKENS and EOS not in r[:-1] and (r[-1] == EOS or len(r) == MAX_TOKENS) for r in responses)


@pytest.mark.parametrize("seed", range(5))
def test_reference_probabilities_sum_to_one(seed):
    task = make_task(0.5, seed)
    assert_allclose(np.exp(task.ref_logprobs).sum(), 1.0, rtol=1e-12)


def test_the_engine_samples_what_the_enumeration_says():
    task, count = make_task(0.5, 3), 20_000
    engine = InProcessEngine(task.reference, PAD, max_batch=count)
    drawn = engine.generate([list(PROMPT)] * count, Sampling(max_tokens=MAX_TOKENS, stop_tokens=(EOS,), seed=1))
    index = {response: i for i, response in enumerate(task.responses)}
    seen = np.bincount([index[c.tokens] for c in drawn], minlength=len(index))
    expected = count * np.exp(task.ref_logprobs)
    often = expected > 5
    chi2 = ((seen - expected)[often] ** 2 / expected[often]).sum()
    assert chi2 < often.sum() + 5 * np.sqrt(2 * often.sum())                     # mean + 5 standard deviations of chi-squared


def test_token_logprobs_agree_with_the_enumeration():
    task = make_task(0.5, 1)
    rows = [torch.tensor([*PROMPT, *r, *[PAD] * (MAX_TOKENS - len(r))]) for r in task.responses]
    mask = torch.tensor([[True] * (len(PROMPT) + len(r)) + [False] * (MAX_TOKENS - len(r)) for r in task.responses])
    logprobs = token_logprobs(task.reference, torch.stack(rows), mask).detach()
    assert_allclose(logprobs[:, len(PROMPT):].sum(1).numpy(), task.ref_logprobs, atol=1e-5)


def test_beta_changes_the_scale_of_the_rewards_and_nothing_else():
    # Where both tables are scaled, pi* is the same and the rewards are in the proportion of the betas.
    small, large = make_task(0.1, 0), make_task(0.2, 0)
    assert small.scale < large.scale < 1
    assert_allclose(small.rewards / 0.1, large.rewards / 0.2, rtol=1e-9)
    assert_allclose(small.ref_logprobs, large.ref_logprobs, rtol=0)


def test_the_unscaled_table_is_standard_normal_draws():
    task = make_task(0.1, 7, scaled=False)
    assert task.scale == 1.0
    assert_allclose(task.rewards, np.random.default_rng(7).standard_normal(85), rtol=0)


def test_an_entropy_bonus_could_not_pass_for_the_kl():
    # Its optimum is that of a reference with equal next-token probabilities.
    for seed in range(20):
        task = make_task(0.5, seed)
        even = np.log(0.2) * np.array([len(r) for r in task.responses])
        found, wrong = (softmax(ref + task.rewards / 0.5) for ref in (task.ref_logprobs, even))
        assert np.abs(found - wrong).sum() / 2 > 5 * TOLERANCE


def test_sampling_meets_every_response():
    # 500 iterations of 256: a response of probability 0.001 is met 128 times even by the reference.
    assert min(np.exp(make_task(0.5, seed).ref_logprobs).min() for seed in range(20)) > 1e-3


def test_the_tokenizer_has_five_tokens_and_pad_is_not_eos():
    tokenizer = tiny_tokenizer()
    assert len(tokenizer) == 5 and tokenizer.pad_token_id == PAD and tokenizer.eos_token_id == EOS
    assert tokenizer.convert_tokens_to_ids(["a", "b"]) == list(PROMPT)


def test_a_padding_token_that_was_sampled_stays_a_token_of_the_response():
    completions = [Completion((PAD, PAD, PAD), (-1.0,) * 3, "length"), Completion((PAD, EOS), (-1.0,) * 2, "stop")]
    rollout = Rollout.collate([PROMPT] * 2, completions, PAD)
    assert rollout.response_mask[:, len(PROMPT):].tolist() == [[True] * 3, [True, True, False]]


def test_response_logprobs_leave_the_model_in_float32():
    task = make_task(0.5, 0)
    response_logprobs(task.reference, task.responses)
    assert next(task.reference.parameters()).dtype == torch.float32
