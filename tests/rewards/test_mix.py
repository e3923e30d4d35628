import pytest
import torch

from tests.rewards.conftest import PROMPTS
from tutelage.base.config import load_values
from tutelage.base.errors import AuditError, ConfigError
from tutelage.models.heads import ScoredModel
from tutelage.rewards.base import ModelReward
from tutelage.rewards.functions import FunctionReward
from tutelage.rewards.mix import MixedReward, RewardSection, model_rewards, open_reward


def words(prompts, completions):
    return [len(c.split()) for c in completions]                    # 3, 5 and 2 words


def test_the_score_is_the_weighted_sum_and_each_part_keeps_its_mean(small, tokenizer, rollout):
    alone = ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer)(PROMPTS, rollout)
    sections = {"kind": RewardSection(model=str(small.reward), weight=2.0), "short": RewardSection(function="any:words", weight=-0.5)}
    reward = open_reward(sections, {"short": words}, tokenizer, "cpu")
    torch.testing.assert_close(reward(PROMPTS, rollout), 2 * alone - 0.5 * torch.tensor([3.0, 5.0, 2.0]))
    assert reward.means == pytest.approx({"kind": alone.mean().item(), "short": 10 / 3})


def test_one_reward_of_weight_one_stands_alone_and_another_weight_counts(small, tokenizer, rollout):
    assert isinstance(open_reward({"reward": RewardSection(model=str(small.reward))}, {}, tokenizer, "cpu"), ModelReward)
    assert isinstance(open_reward({}, {"given": words}, tokenizer, "cpu"), FunctionReward)
    half = open_reward({"reward": RewardSection(function="any:words", weight=0.5)}, {"reward": words}, tokenizer, "cpu")
    assert half(PROMPTS, rollout).tolist() == [1.5, 2.5, 1.0]


def test_a_callers_function_joins_the_config_s_rewards_with_weight_one(small, tokenizer, rollout):
    alone = ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer)(PROMPTS, rollout)
    reward = open_reward({"reward": RewardSection(model=str(small.reward))}, {"given": words}, tokenizer, "cpu")
    torch.testing.assert_close(reward(PROMPTS, rollout), alone + torch.tensor([3.0, 5.0, 2.0]))
    assert [r.model.score_shift.item() for r in model_rewards(reward)] == [pytest.approx(0.7)]


def test_the_part_without_a_finite_score_is_named(tokenizer, rollout):
    class Silent:
        def __call__(self, prompts, rollout):
            return torch.tensor([0.0, float("nan"), 0.0])

    with pytest.raises(AuditError, match="the reward quiet is nan for 1 of 3 answers"):
        MixedReward({"quiet": (1.0, Silent()), "loud": (1.0, FunctionReward(words, tokenizer))}, tokenizer)(PROMPTS, rollout)


@pytest.mark.parametrize("values", [{}, {"weight": 2}, {"model": "a", "function": "b:c"}])
def test_a_reward_is_a_model_a_function_or_people(values):
    with pytest.raises(ConfigError, match="give one of model, function and studio"):
        load_values(RewardSection, values, where="here")
