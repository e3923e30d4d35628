"""What PPO may be rewarded by: several models with weights, functions of the caller's or of a config, models with short contexts."""

from __future__ import annotations

import json

import pytest
import torch

from tests.small import ppo_config
from tutelage.base.errors import AuditError, ConfigError
from tutelage.base.permission import allow_code
from tutelage.models.heads import ScoredModel
from tutelage.recipes.ppo import preview, train_ppo
from tutelage.recipes.ppo_setup import build
from tutelage.rewards.mix import MixedReward
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer
from tutelage.train.run import Run

SHORT = {"algo": {"num_iterations": 1}, "model": {"reward": None}}


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def brevity(prompts, completions):
    return [-float(len(c.split())) for c in completions]


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def brevity(prompts, completions):\n    return [-float(len(c.split())) for c in completions]\n"
                    "def breaks(prompts, completions):\n    return [1 / 0]\n")
    return file


def test_two_reward_models_and_a_function_add_up_by_their_weights(small, tmp_path, code):
    torch.manual_seed(1)
    ScoredModel.from_policy(small.sft, seed=7).save(tmp_path / "second", open_tokenizer(small.sft))
    rewards = {"first": {"model": str(small.reward)}, "second": {"model": str(tmp_path / "second"), "weight": 0.5},
               "brief": {"function": f"{code}:brevity", "weight": 0.25}}
    with allow_code():
        train_ppo(ppo_config(small, tmp_path / "run", SHORT, {"rewards": rewards}))
    (row,) = rows(tmp_path / "run")
    first, second, brief = (row[f"objective/score/{name}"] for name in rewards)
    assert brief < -1 and first != second
    assert row["objective/score"] == pytest.approx(first + 0.5 * second + 0.25 * brief, abs=1e-5)
    parents = json.loads((tmp_path / "run/lineage.json").read_text())["parents"]
    assert {"reward first", "reward second", "reward brief"} <= parents.keys() and parents["reward brief"]["path"] == str(code)


def test_a_function_of_the_caller_s_is_enough_and_teaches_the_policy_to_be_brief(small, tmp_path):
    cfg = ppo_config(small, tmp_path / "run", {"model": {"reward": None}, "rollout": {"max_tokens": 12}, "optim": {"learning_rate": 3e-3},
                                               "algo": {"num_iterations": 8, "batch_size": 32, "minibatch_size": 16, "kl_coef": 0.0}})
    train_ppo(cfg, reward=brevity)
    first, *_, last = rows(tmp_path / "run")
    assert last["objective/score"] > first["objective/score"] + 0.5
    assert json.loads((tmp_path / "run/lineage.json").read_text())["parents"]["reward given"]["path"] == __file__


def test_a_function_that_breaks_stops_the_run_before_any_update(small, tmp_path, code):
    with allow_code(), pytest.raises(AuditError, match=r"breaks raised ZeroDivisionError: division by zero \(mine.py:4\)"):
        train_ppo(ppo_config(small, tmp_path / "run", SHORT, {"rewards": {"x": {"function": f"{code}:breaks"}}}))
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_without_permission_nothing_is_started(small, tmp_path, code):
    cfg = ppo_config(small, tmp_path / "run", SHORT, {"rewards": {"x": {"function": f"{code}:brevity"}}})
    for start in (train_ppo, preview):
        with pytest.raises(ConfigError, match="may not run by itself"):
            start(cfg)
    assert not (tmp_path / "run").exists()


def test_a_run_needs_a_reward_and_only_in_one_place(small, tmp_path):
    with pytest.raises(ConfigError, match="nothing scores the answers"):
        train_ppo(ppo_config(small, tmp_path / "run", SHORT))
    with pytest.raises(ConfigError, match="give either model.reward or rewards"):
        ppo_config(small, tmp_path / "run", {"rewards": {"x": {"model": "m"}}})


def players_of(small, run_dir, *over):
    cfg = ppo_config(small, run_dir, *over)
    with Run.open(cfg, "ppo") as run:
        return build(cfg, run)


def test_of_several_reward_models_the_critic_starts_as_the_heaviest_times_its_weight(small, tmp_path):
    ScoredModel.from_policy(small.sft, seed=7).rescale_(1.0, 0.3).save(tmp_path / "second", open_tokenizer(small.sft))
    rewards = {"a": {"model": str(small.reward), "weight": 0.5}, "b": {"model": str(tmp_path / "second"), "weight": 2.0},
               "cost": {"model": str(small.reward), "weight": -9.0}}
    players = players_of(small, tmp_path / "run", {"model": {"reward": None}, "rewards": rewards})
    assert isinstance(players.reward, MixedReward)
    tokens = torch.tensor([players.prompt_tokens[0]])
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        expected = 2.0 * ScoredModel.open(tmp_path / "second").score(tokens, mask)
        torch.testing.assert_close(players.actor_critic.critic.score(tokens, mask), expected)


def narrow_copy(small, folder, context):
    """The same reward model with fewer positions."""
    ScoredModel.open(small.reward).save(folder, open_tokenizer(small.reward))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    return str(folder)


def test_prompts_that_a_reward_model_has_no_room_for_are_left_out_whichever_tokens_it_reads(small, tmp_path):
    lengths = [len(t) for t in players_of(small, tmp_path / "all").prompt_tokens]
    limit = max(lengths) - 1 + 6                                     # 6 is rollout.max_tokens: no room for the longest
    same = narrow_copy(small, tmp_path / "same", limit)
    left = players_of(small, tmp_path / "a", {"model": {"reward": same}, "critic": {"kind": "shared"}})
    assert [len(t) for t in left.prompt_tokens] == [n for n in lengths if n + 6 <= limit] and left.left_out > 0
    train_tokenizer(["zebra"], vocab_size=263, out_dir=tmp_path / "bytes")
    other = narrow_copy(small, tmp_path / "other", 25)
    open_tokenizer(tmp_path / "bytes").save_pretrained(other)        # a token per byte: "where is cat 3?" and its four marks are 19
    players = players_of(small, tmp_path / "b", {"model": {"reward": other}})
    assert players.left_out > 0 and all(len(p[-1].content) + 4 + 6 <= 25 for p in players.prompts)


def test_a_reward_of_the_config_does_not_silently_take_the_place_of_the_one_passed_as_a_function(small, tmp_path):
    cfg = ppo_config(small, tmp_path / "run", SHORT, {"rewards": {"given": {"model": str(small.reward)}}})
    with pytest.raises(ConfigError, match="rewards.given: that is the name of the reward passed as a function"):
        train_ppo(cfg, reward=brevity)
    assert not (tmp_path / "run").exists()
