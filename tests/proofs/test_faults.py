"""Faults that PPO implementations have had, planted one at a time: each must end further from the optimum than the proof tolerates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tutelage.algos.advantages import gae, kl_penalized_rewards
from tutelage.algos.masked import is_last
from tutelage.base.errors import AuditError
from tutelage.proofs.check import prove
from tutelage.proofs.methods import TOLERANCE
from tutelage.proofs.task import EOS, PAD
from tutelage.recipes import ppo as recipe
from tutelage.rollout import Rollout

collate = Rollout.collate


def kl_sign_flipped(patch):
    patch.setattr(recipe, "kl_penalized_rewards", lambda *tensors, kl_coef: kl_penalized_rewards(*tensors, kl_coef=-kl_coef))


def kl_averaged_over_tokens(patch):
    def averaged(scores, logprobs, ref_logprobs, mask, *, kl_coef):
        count = mask.sum(1, keepdim=True).clamp_min(1)
        return kl_penalized_rewards(scores, logprobs / count, ref_logprobs / count, mask, kl_coef=kl_coef)

    patch.setattr(recipe, "kl_penalized_rewards", averaged)


def eos_left_out_of_the_mask(patch):
    remask(patch, lambda rollout: rollout.response_mask & (rollout.tokens != EOS))


def mask_taken_from_the_padding_id(patch):
    remask(patch, lambda rollout: rollout.response_mask & (rollout.tokens != PAD))


def mask_one_token_late(patch):
    remask(patch, lambda rollout: torch.roll(rollout.response_mask, 1, dims=1))  # the prompt comes first, so nothing wraps into a response


def value_after_the_end_not_zero(patch):
    patch.setattr(recipe, "gae", lambda rewards, values, mask, **settings: gae(
        rewards, values, mask, **settings | {"last_values": torch.where(is_last(mask), values, 0.0).sum(1)}))


def gae_off_by_one(patch):
    patch.setattr(recipe, "gae", lambda rewards, values, mask, **settings: gae(rewards, torch.roll(values, 1, dims=1), mask, **settings))


def advantages_shifted_by_one(patch):
    def shifted(*tensors, **settings):
        advantages, returns = gae(*tensors, **settings)
        return torch.roll(advantages, 1, dims=1), returns

    patch.setattr(recipe, "gae", shifted)


def remask(patch, mask_of: Callable[[Rollout], torch.Tensor]) -> None:
    def wrong(*args):
        rollout = collate(*args)
        return replace(rollout, response_mask=mask_of(rollout))

    patch.setattr(Rollout, "collate", wrong)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [
    kl_sign_flipped, kl_averaged_over_tokens, eos_left_out_of_the_mask, mask_taken_from_the_padding_id, mask_one_token_late,
    value_after_the_end_not_zero, gae_off_by_one, advantages_shifted_by_one], ids=lambda plant: plant.__name__)
def test_a_planted_fault_ends_beyond_the_tolerance(plant, monkeypatch):
    plant(monkeypatch)
    try:
        distance = prove("ppo", beta=0.5, seed=0).total_variation
    except AuditError:                                               # a self-audit caught it before it could mislead
        return
    print(f"{plant.__name__}: {distance:.3f}")
    assert distance > 2 * TOLERANCE
