"""PPO's properties, by the numbers of docs on RLHF practice: each test names the fact it holds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.small import config, open_players, ppo_config, same_weights
from tutelage.algos.kl import adaptive_kl_coef
from tutelage.algos.shaping import RunningMoments
from tutelage.base.errors import AuditError, ConfigError, DataError
from tutelage.base.records import Completion
from tutelage.models.actor_critic import SharedTrunk
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, save_policy, token_logprobs
from tutelage.recipes import ppo as recipe
from tutelage.recipes.ppo import Progress, after_truncation, ppo, ppo_loss, roll_out, shape_scores, train_ppo
from tutelage.recipes.ppo_setup import AlgoSection, Experience, PPOConfig
from tutelage.rewards.base import ModelReward
from tutelage.rollout.batch import Rollout
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.optim import clip_and_step


@pytest.fixture
def start(small, tmp_path):
    """Players of a fresh run: start(layers of config) -> (players, cfg, run)."""
    opened = []

    def of(*over):
        cfg = ppo_config(small, tmp_path / f"run{len(opened)}", *over)
        players, run = open_players(cfg)
        opened.append(run)
        return players, cfg, run

    yield of
    for run in opened:
        run.__exit__()


def experience_of(players, cfg, iteration=0) -> Experience:
    """A rollout with credit that is not from the recipe: random advantages and returns."""
    _, rollout = roll_out(players, cfg, iteration)
    generator = torch.Generator().manual_seed(0)
    values = players.actor_critic.values(rollout.tokens, rollout.attention_mask).detach()
    return Experience(rollout.tokens, rollout.attention_mask, rollout.response_mask, rollout.logprobs, values,
                      torch.randn(values.shape, generator=generator), torch.randn(values.shape, generator=generator))


def last_column(rollout) -> torch.Tensor:
    return rollout.attention_mask.long().sum(1) - 1


def metrics(run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


# -- facts 4, 13, 18, 33: where the score lands -------------------------------------------------------------------------


def test_the_score_is_read_at_the_last_response_token_which_is_eos(start):                       # facts 4 and 18
    players, cfg, _ = start()
    prompts, rollout = roll_out(players, cfg, 0)
    assert rollout.finished.any() and not rollout.finished.all()
    last = rollout.tokens.gather(1, last_column(rollout)[:, None]).squeeze(1)
    assert ((last == players.tokenizer.eos_token_id) == rollout.finished).all()
    scores = players.reward(prompts, rollout)
    for row in range(len(rollout)):                                  # each row alone, unpadded, by the plain transformers model
        alone = rollout.tokens[row, : last_column(rollout)[row] + 1][None]
        with torch.no_grad():
            plain = players.reward.model.model(input_ids=alone).logits[0, 0] + players.reward.model.score_shift
        torch.testing.assert_close(scores[row], plain, rtol=0, atol=1e-5)


def test_the_reward_per_token_is_minus_beta_times_the_log_ratio_and_the_score_comes_with_eos(start, monkeypatch):      # fact 13
    players, cfg, run = start({"algo": {"kl_coef": 0.3, "missing_eos_penalty": 0.0, "num_iterations": 1}})
    with torch.no_grad():
        players.ref_policy.model.layers[0].mlp.down_proj.weight.mul_(0.5)                           # so that the KL is not 0
    seen = {}

    def spy(rewards, values, mask, **settings):
        seen.update(rewards=rewards, mask=mask)
        return gae(rewards, values, mask, **settings)

    gae = recipe.gae
    monkeypatch.setattr(recipe, "gae", spy)
    ppo(players, cfg, run)
    players, cfg, _ = start({"algo": {"num_iterations": 1}})
    prompts, rollout = roll_out(players, cfg, 0)
    with torch.no_grad():
        players.ref_policy.model.layers[0].mlp.down_proj.weight.mul_(0.5)
        ref = token_logprobs(players.ref_policy, rollout.tokens, rollout.attention_mask)
    expected = torch.where(rollout.response_mask, -0.3 * (rollout.logprobs - ref), torch.tensor(0.0))
    expected[torch.arange(len(rollout)), last_column(rollout)] += players.reward(prompts, rollout)
    torch.testing.assert_close(seen["rewards"], expected, rtol=0, atol=1e-5)
    assert expected.abs().sum() > 1 and not seen["rewards"][~rollout.response_mask].any()


# -- facts 5, 10, 11, 32, 37: one distribution ---------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_the_first_minibatch_has_ratio_one_at_any_temperature(start, temperature, kind):          # facts 10 and 37
    players, cfg, _ = start({"rollout": {"temperature": temperature}, "critic": {"kind": kind}})
    experience = experience_of(players, cfg)
    _, stats, ratio = ppo_loss(players.actor_critic, experience, experience.response_mask.sum(), cfg)
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
    assert abs(stats["policy/approx_kl"]) < 1e-6 and stats["policy/clipfrac"] == 0 and stats["policy/ratio"] == pytest.approx(1, abs=1e-5)


def test_logprobs_at_another_temperature_than_the_samplers_go_red(start):                         # fact 10
    players, cfg, run = start({"rollout": {"temperature": 0.7}})
    players.sampling = replace(players.sampling, temperature=1.0)
    with pytest.raises(AuditError, match="first minibatch: ratio differs"):
        ppo(players, cfg, run)


@pytest.mark.parametrize("settings", [{"top_k": 3}, {"top_p": 0.8}])
def test_the_stored_logprobs_are_of_the_whole_distribution_and_the_recipe_cuts_nothing_off(start, settings):            # fact 32
    players, cfg, _ = start()
    assert (players.sampling.top_k, players.sampling.top_p) == (0, 1.0)
    assert not set(settings) & set(type(cfg.rollout).model_fields)    # and no config can


def test_dropout_is_off_in_policy_reference_and_critic(small, tmp_path):                          # fact 11
    model = open_policy(small.sft)
    model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path / "drop")
    open_tokenizer(small.sft).save_pretrained(tmp_path / "drop")
    cfg = ppo_config(small, tmp_path / "run", {"model": {"policy": str(tmp_path / "drop")}})
    players, run = open_players(cfg)
    players.actor_critic.policy.train()                               # even then
    tokens = torch.tensor([players.prompt_tokens[0]])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    once, twice = (players.actor_critic.evaluate(tokens, mask, temperature=1.0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    run.__exit__()


def test_pad_is_not_eos_and_padding_changes_nothing(start):                                       # facts 5 and 18
    players, cfg, _ = start()
    assert players.tokenizer.pad_token_id != players.tokenizer.eos_token_id
    experience = experience_of(players, cfg)
    padding = ~experience.attention_mask
    assert padding.any()
    other = replace(
        experience,
        tokens=torch.where(padding, 9, experience.tokens),
        old_logprobs=experience.old_logprobs.where(~padding, torch.nan),
        advantages=experience.advantages.where(~padding, torch.nan),
        returns=experience.returns.where(~padding, torch.nan),
    )
    count = experience.response_mask.sum()
    one, other = (ppo_loss(players.actor_critic, e, count, cfg)[0] for e in (experience, other))
    assert torch.equal(one, other)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_policy_and_reference_start_equal_so_the_first_kl_is_zero(small, tmp_path, temperature):                        # fact 10
    result = train_ppo(ppo_config(small, tmp_path / "run", {"algo": {"num_iterations": 1}, "rollout": {"temperature": temperature}}))
    (row,) = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert abs(row["objective/kl"]) < 1e-4 and row["policy/ratio"] == pytest.approx(1, abs=0.05) and result["kl"] == row["objective/kl"]


def test_rollouts_come_from_the_weights_of_their_iteration(start, monkeypatch):                   # peer bug 13
    players, cfg, run = start()
    sync = players.engine.sync
    monkeypatch.setattr(players.engine, "sync", lambda weights, version: sync(weights, version) if version == 0 else None)
    with pytest.raises(AuditError, match=r"weight version \[0\], expected 1"):
        ppo(players, cfg, run)


def test_a_rollout_from_other_weights_is_seen_in_the_first_minibatch(start, small):
    players, cfg, run = start()
    players.engine.model = open_policy(small.base)                    # samples from another model, stamps the right version
    players.engine.sync = lambda weights, version: setattr(players.engine, "weight_version", version)
    with pytest.raises(AuditError, match="first minibatch"):
        ppo(players, cfg, run)


def test_prompts_repeat_only_when_there_are_fewer_than_responses_and_each_response_has_its_own_draws(start):
    players, cfg, _ = start({"data": {"limit": 3, "eval_frac": 0}})
    _, rollout = roll_out(players, cfg, 0)
    assert len(set(rollout.prompt_tokens)) == 3 and len(rollout) == 8
    assert len({(p, c.tokens) for p, c in zip(rollout.prompt_tokens, rollout.completions, strict=True)}) > 3


def test_the_same_prompt_is_answered_with_new_draws_in_each_iteration(start):
    players, cfg, _ = start({"data": {"limit": 1, "eval_frac": 0}})
    first, second, again = (sorted(c.tokens for c in roll_out(players, cfg, i)[1].completions) for i in (0, 1, 0))
    assert first == again != second


# -- fact 12 and the ends of answers -------------------------------------------------------------------------------------


def made_rollout(players, finished=(True, False)) -> Rollout:
    prompt, eos = players.prompt_tokens[0], players.tokenizer.eos_token_id
    ends = [Completion((40, eos) if done else (40, 41), (-1.0, -1.0), "stop" if done else "length", 0) for done in finished]
    return Rollout.collate([prompt] * len(ends), ends, players.tokenizer.pad_token_id)


def test_an_answer_without_eos_pays_the_penalty_and_keeps_its_score(start):                       # fact 12, as TRL states it
    players, cfg, _ = start({"algo": {"missing_eos_penalty": 2.5}})
    scores = shape_scores(torch.tensor([1.0, 1.0]), made_rollout(players), Progress(0.0, RunningMoments()), cfg)
    assert scores.tolist() == [1.0, -1.5]


def test_an_answer_without_eos_gets_the_missing_eos_score_whatever_the_reward_model_says(start):    # Ziegler et al. 2019: rejection
    players, cfg, _ = start({"algo": {"missing_eos_score": -2.0}})
    scores = shape_scores(torch.tensor([1.0, 6.0]), made_rollout(players), Progress(0.0, RunningMoments()), cfg)
    assert scores.tolist() == [1.0, -2.0]


def test_a_cut_off_answer_is_either_scored_or_bootstrapped():
    with pytest.raises(ValueError, match="give one"):
        AlgoSection(missing_eos_score=-1.0, bootstrap_truncated=True)


def test_a_bootstrapped_answer_gets_the_value_after_it_instead_of_its_score(start):               # peer bug 9; Pardo et al. 2018
    players, cfg, _ = start({"algo": {"missing_eos_penalty": 0.0, "bootstrap_truncated": True, "gamma": 0.9, "gae_lambda": 1.0}})
    rollout = made_rollout(players)
    scores = shape_scores(torch.tensor([1.0, 3.0]), rollout, Progress(0.0, RunningMoments()), cfg)
    assert scores.tolist() == [1.0, 0.0]
    after = after_truncation(players.actor_critic, rollout)
    with torch.no_grad():
        plain = players.actor_critic.critic.model(input_ids=rollout.tokens[1:]).logits[0, 0] + players.actor_critic.critic.score_shift
    assert after[0] == 0 and after[1] == pytest.approx(plain.item(), abs=1e-5)
    rewards = torch.where(rollout.response_mask, 0.0, 0.0)
    rewards[torch.arange(2), last_column(rollout)] = scores
    _, returns = recipe.gae(rewards, torch.zeros_like(rewards), rollout.response_mask, gamma=0.9, gae_lambda=1.0, last_values=after)
    first = rollout.prompt_lengths[0]
    torch.testing.assert_close(returns[:, first], torch.stack([torch.tensor(0.9), 0.81 * plain]), rtol=0, atol=1e-5)


def test_without_bootstrapping_a_truncated_answer_ends_with_its_score(start):
    players, cfg, _ = start({"algo": {"missing_eos_penalty": 0.0}})
    assert shape_scores(torch.tensor([1.0, 3.0]), made_rollout(players), Progress(0.0, RunningMoments()), cfg).tolist() == [1.0, 3.0]


# -- facts 2 and 19: shaping, adaptive KL, the critic ---------------------------------------------------------------------


def test_scores_are_normalised_by_the_moments_of_all_scores_so_far_and_clipped(start):            # fact 19
    players, cfg, _ = start({"algo": {"normalize_scores": True, "score_clip": 1.0, "missing_eos_penalty": 0.0}})
    at, rollout = Progress(0.0, RunningMoments()), made_rollout(players, (True, True))
    assert shape_scores(torch.tensor([1.0, 3.0]), rollout, at, cfg).tolist() == [-1.0, 1.0]
    # all so far: 1, 3, 5, 11 with mean 5 and variance 14; (11 - 5) / sqrt(14) = 1.60 is clipped
    assert shape_scores(torch.tensor([5.0, 11.0]), rollout, at, cfg).tolist() == pytest.approx([0.0, 1.0])
    assert (at.moments.count, at.moments.mean) == (4, 5.0)


def test_the_kl_coefficient_adapts_as_in_ziegler(small, tmp_path):  # fact 2
    over = {
        "algo": {"num_iterations": 4, "kl_coef": 0.1, "kl_target": 0.01, "kl_horizon": 40, "batch_size": 8},
        "optim": {"learning_rate": 3e-3},
    }
    train_ppo(ppo_config(small, tmp_path / "run", over))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    coef = 0.1
    for row in rows:                                                 # beta <- beta * (1 + clip(KL / target - 1, +-0.2) * n / horizon)
        assert row["objective/kl_coef"] == pytest.approx(coef)
        coef *= 1 + max(-0.2, min(0.2, row["objective/kl"] / 0.01 - 1)) * 8 / 40
        assert coef == pytest.approx(
            adaptive_kl_coef(row["objective/kl_coef"], row["objective/kl"], target=0.01, horizon=40, num_episodes=8)
        )
    assert len({row["objective/kl_coef"] for row in rows}) == 4
    assert rows[-1]["objective/kl_coef"] > rows[1]["objective/kl_coef"]                             # the KL passed its target


def test_the_critic_starts_as_the_reward_model_head_and_shift_included(start):                    # facts 18 and 19
    players, cfg, _ = start()
    _, rollout = roll_out(players, cfg, 0)
    with torch.no_grad():
        values = players.actor_critic.values(rollout.tokens, rollout.attention_mask)
        scores = players.reward.model.token_scores(rollout.tokens, rollout.attention_mask)
    torch.testing.assert_close(values[:, 1:][rollout.attention_mask[:, 1:]], scores[:, :-1][rollout.attention_mask[:, 1:]])
    assert players.reward.model.score_shift.item() == pytest.approx(0.7)
    assert players.actor_critic.critic.model is not players.reward.model.model                      # a copy: the reward stays frozen


def test_the_critic_may_start_from_the_policy_instead(start, small):
    players, _, _ = start({"critic": {"init": "policy"}})
    backbone = players.actor_critic.critic.model.base_model.state_dict()
    assert all(torch.equal(backbone[name], t) for name, t in open_policy(small.sft).base_model.state_dict().items())


def other_tokenizer_reward(small, folder):
    """A reward model over another vocabulary: one more token, and the ids of the others swapped."""
    from tutelage.text.tokenizer import train_tokenizer

    tokenizer = open_tokenizer(train_tokenizer(["zebra zebra zebra", "quartz quartz"], vocab_size=300, out_dir=folder / "tokenizer"))
    ScoredModel.from_policy(small.sft, seed=0).save(folder / "reward", tokenizer)
    return str(folder / "reward")


def test_a_critic_never_starts_from_a_model_with_another_tokenizer(small, tmp_path, caplog):      # peer bug 23
    reward = other_tokenizer_reward(small, tmp_path)
    cfg = ppo_config(small, tmp_path / "run", {"model": {"reward": reward}, "critic": {"init": "reward"}})
    with pytest.raises(ConfigError, match="its tokenizer is not the policy's") as error:
        train_ppo(cfg)
    assert "critic.init=policy" in error.value.hint
    with caplog.at_level("INFO", logger="tutelage"):
        result = train_ppo(ppo_config(small, tmp_path / "run", {"model": {"reward": reward}, "algo": {"num_iterations": 1}}))
    assert "the critic starts from the policy" in caplog.text and isinstance(result["score"], float)


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_critic_warm_up_leaves_the_policy_untouched_and_teaches_the_critic(small, tmp_path, kind):                     # fact 19
    over = {"critic": {"kind": kind, "warmup_iterations": 1}, "algo": {"num_iterations": 2}, "save": {"every_steps": 1},
            "optim": {"weight_decay": 0.1, "schedule": "constant"}}
    train_ppo(ppo_config(small, tmp_path / "run", over))
    first, second = sorted((tmp_path / "run/ckpt").iterdir())
    assert same_weights(first / "model", small.sft) and not same_weights(second / "model", small.sft)
    if kind == "separate":
        assert not same_weights(first / "critic", small.reward)
    else:
        from safetensors.torch import load_file

        assert load_file(first / "critic/value_head.safetensors")["weight"].abs().sum() > 0


def test_both_learning_rates_are_annealed_from_their_own_peak(start, monkeypatch):                 # fact 7
    players, cfg, run = start({"algo": {"num_iterations": 4, "epochs": 1, "minibatch_size": 8}, "critic": {"learning_rate": 1e-2},
                               "optim": {"learning_rate": 1e-3, "schedule": "linear", "min_lr_frac": 0.0}})
    rates = []
    step = recipe.ppo_step
    monkeypatch.setattr(recipe, "ppo_step", lambda p, optimizer, *a, **k: rates.append(sorted({g["lr"] for g in optimizer.param_groups}))
                        or step(p, optimizer, *a, **k))
    ppo(players, cfg, run)
    assert [pytest.approx(pair) for pair in rates] == [[1e-3 * f, 1e-2 * f] for f in (1, 0.75, 0.5, 0.25)]


# -- fact 15 and peer bugs 8, 11: minibatches -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_gradients_do_not_depend_on_the_micro_batch(start, kind):
    players, cfg, _ = start({"critic": {"kind": kind}, "algo": {"ent_coef": 0.3}})
    experience = experience_of(players, cfg)
    modules = [m for _, m in players.actor_critic.networks()]

    def gradients(size):
        for m in modules:
            m.zero_grad(set_to_none=True)
        for piece in experience.micro(size):
            ppo_loss(players.actor_critic, piece, experience.response_mask.sum(), cfg)[0].backward()
        return [p.grad.clone() for m in modules for p in m.parameters()]

    whole = gradients(None)
    assert sum(float(g.abs().sum()) for g in whole) > 0
    for size in (1, 2, 3):
        for a, b in zip(whole, gradients(size), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize("microbatch", [None, 1, 3])
@pytest.mark.parametrize(("epochs", "minibatch"), [(1, 8), (3, 8), (2, 4), (1, 2)])
def test_there_are_epochs_times_minibatches_optimizer_steps_whatever_the_micro_batch(start, monkeypatch, epochs, minibatch, microbatch):
    players, cfg, run = start({"algo": {"epochs": epochs, "minibatch_size": minibatch, "num_iterations": 1},
                               "optim": {"microbatch_size": microbatch}})
    steps = []
    monkeypatch.setattr(recipe, "clip_and_step", lambda *a: steps.append(1) or clip_and_step(*a))
    ppo(players, cfg, run)
    assert len(steps) == epochs * 8 // minibatch


def test_micro_batches_leave_the_metrics_unchanged(small, tmp_path):
    told = []
    for name, size in (("whole", None), ("ones", 1)):
        train_ppo(ppo_config(small, tmp_path / name, {"optim": {"microbatch_size": size}, "algo": {"num_iterations": 1}}))
        told.append(json.loads((tmp_path / name / "metrics.jsonl").read_text()))
    for key in told[0]:
        if not key.startswith("time/") and key != "seconds":
            assert told[1][key] == pytest.approx(told[0][key], rel=1e-3, abs=1e-5), key


def test_every_epoch_shows_each_answer_once_in_a_new_order(start, monkeypatch):
    players, cfg, run = start({"algo": {"epochs": 2, "minibatch_size": 2, "num_iterations": 1}})
    seen = []
    step = recipe.ppo_step
    monkeypatch.setattr(
        recipe, "ppo_step", lambda p, o, batch, *a, **k: seen.append(batch.old_logprobs.sum(1)) or step(p, o, batch, *a, **k)
    )
    ppo(players, cfg, run)
    first, second = (torch.cat(seen[i : i + 4]) for i in (0, 4))
    assert torch.equal(first.sort().values, second.sort().values) and not torch.equal(first, second)


def test_the_policy_steps_are_clipped_by_the_gradient_norm(small, tmp_path, monkeypatch):         # peer bug 8
    norms = []

    class Watching(torch.optim.AdamW):
        def step(self, closure=None):
            norms.append([sum(float(p.grad.norm()) ** 2 for p in g["params"] if p.grad is not None) for g in self.param_groups])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watching)
    train_ppo(ppo_config(small, tmp_path / "run", {"optim": {"max_grad_norm": 1e-3}, "algo": {"num_iterations": 1}}))
    assert len(norms) == 4 and all(0 < sum(squares) <= 2 * (1e-3) ** 2 * 1.001 for squares in norms)                  # two networks


def test_advantages_are_whitened_over_the_rollout_or_the_minibatch(start, monkeypatch):           # fact 14
    for how, sizes in (("batch", None), ("minibatch", 4)):
        players, cfg, run = start({"algo": {"whiten_advantages": how, "minibatch_size": 4, "epochs": 1, "num_iterations": 1}})
        parts = []
        step = recipe.ppo_step
        with monkeypatch.context() as patch:
            patch.setattr(recipe, "ppo_step", lambda p, o, batch, *a, parts=parts, step=step, **k:
                          parts.append(batch.advantages[batch.response_mask]) or step(p, o, batch, *a, **k))
            ppo(players, cfg, run)
        for group in [torch.cat(parts)] if sizes is None else parts:
            assert group.mean().abs() < 1e-5 and group.var(unbiased=False) == pytest.approx(1, abs=1e-4)


# -- stopping early, bad rewards --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target_kl", "steps", "stopped"), [(1e-4, range(2, 20), 1.0), (1e4, [100], 0.0), (None, [100], 0.0)])
def test_the_epochs_end_early_when_the_kl_to_the_old_policy_passes_its_target(small, tmp_path, target_kl, steps, stopped):
    over = {"algo": {"epochs": 50, "target_kl": target_kl, "num_iterations": 1}, "optim": {"learning_rate": 3e-3}}
    train_ppo(ppo_config(small, tmp_path / "run", over))
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    state = json.loads(next((tmp_path / "run/ckpt").glob("*/train/state.json")).read_text())
    assert row["policy/early_stop"] == stopped and state["values"]["optimizer_steps"] in steps         # never after the first: its KL is 0


class CountReward:
    """How often one token stands in the response."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, prompts, rollout):
        return ((rollout.tokens == self.token) & rollout.response_mask).sum(1).float()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_stops_before_anything_is_updated(start, small, bad):          # peer bug 14
    players, cfg, run = start({"algo": {"normalize_scores": True}})
    players.reward = lambda prompts, rollout: torch.tensor([0.0] * 3 + [bad] + [0.0] * 4)
    with pytest.raises(AuditError, match=rf"reward is {bad} for 1 of 8 answers, first '.*' to 'user: where is"):
        ppo(players, cfg, run)
    before = open_policy(small.sft).state_dict()
    assert all(torch.equal(t, before[name]) for name, t in players.actor_critic.policy.state_dict().items())
    assert not (run.folder / "ckpt").exists() and not (run.folder / "metrics.jsonl").exists()


def test_a_reward_of_the_wrong_shape_is_named(start):
    players, cfg, run = start()
    players.reward = lambda prompts, rollout: torch.zeros(8, 1)
    with pytest.raises(AuditError, match=r"shape \(8, 1\) for 8 answers"):
        ppo(players, cfg, run)


def test_a_loss_that_is_no_number_saves_its_batch_and_updates_nothing(start, monkeypatch):
    players, cfg, run = start()
    monkeypatch.setattr(recipe, "check_split", lambda *a: None)       # which would stop it first
    gae = recipe.gae
    monkeypatch.setattr(recipe, "gae", lambda *a, **k: tuple(x + float("nan") for x in gae(*a, **k)))
    before = {name: t.clone() for name, t in players.actor_critic.policy.state_dict().items()}
    with pytest.raises(AuditError, match="not finite; the batch is in"):
        ppo(players, cfg, run)
    assert (run.folder / "bad_batch.safetensors").exists()
    assert all(torch.equal(t, before[name]) for name, t in players.actor_critic.policy.state_dict().items())


# -- it learns ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_ppo_raises_the_rate_of_a_rewarded_token_from_one_answer_in_six_to_nearly_all(start, kind):
    players, cfg, run = start(
        {
            "algo": {"num_iterations": 25, "batch_size": 32, "minibatch_size": 16, "kl_coef": 0.0, "missing_eos_penalty": 0.0},
            "critic": {"kind": kind, "init": "policy", "learning_rate": 3e-3},
            "optim": {"learning_rate": 3e-3, "schedule": "constant"},
            "rollout": {"max_tokens": 4},
        }
    )
    place = players.tokenizer(" pond", add_special_tokens=False)["input_ids"]
    players.reward = CountReward(place[-1])
    ppo(players, cfg, run)
    scores = [row["objective/score"] for row in metrics(run)]
    assert scores[0] < 0.4 and sum(scores[-5:]) / 5 > 0.9


def test_the_kl_penalty_holds_the_policy_near_its_start(start):
    kls = []
    for kl_coef in (0.0, 1.0):
        players, cfg, run = start({"algo": {"num_iterations": 12, "batch_size": 32, "minibatch_size": 16, "kl_coef": kl_coef},
                                   "critic": {"init": "policy"}, "optim": {"learning_rate": 3e-3, "schedule": "constant"}})
        players.reward = CountReward(players.tokenizer(" pond", add_special_tokens=False)["input_ids"][-1])
        ppo(players, cfg, run)
        kls.append(metrics(run)[-1]["objective/kl"])
    assert kls[1] < 0.5 * kls[0]


def test_an_entropy_bonus_keeps_the_entropy_up(start):
    entropies = []
    for ent_coef in (0.0, 0.5):
        players, cfg, run = start(
            {
                "algo": {"num_iterations": 8, "batch_size": 16, "minibatch_size": 8, "kl_coef": 0.0, "ent_coef": ent_coef},
                "optim": {"learning_rate": 3e-3, "schedule": "constant"},
            }
        )
        players.reward = lambda prompts, rollout: torch.zeros(len(rollout))
        ppo(players, cfg, run)
        entropies.append(metrics(run)[-1]["policy/entropy"])
    assert entropies[1] > entropies[0] + 0.2


def test_a_pretraining_mix_keeps_the_pretraining_loss_lower_than_none(start, small):
    last = []
    for coef in (0.0, 1.0):
        ptx = {"ptx": {"files": [str(small.corpus)], "coef": coef or 1.0, "context_tokens": 32, "batch_size": 4}}
        players, cfg, run = start({"algo": {"num_iterations": 6, "batch_size": 16, "minibatch_size": 8},
                                   "optim": {"learning_rate": 3e-3, "schedule": "constant"}}, ptx)
        rows, mix = players.pretraining, players.pretraining
        players.pretraining = mix if coef else None
        ppo(players, cfg, run)
        players.pretraining = rows
        with torch.no_grad():
            last.append(recipe.pretraining_loss(players, 0, cfg).item())
    assert last[1] < last[0] - 0.3


def test_the_held_out_side_of_the_pretraining_text_is_not_mixed_in(start, small):
    everything, most = (start({"ptx": {"files": [str(small.corpus)], "coef": 1.0, "context_tokens": 32, "eval_frac": frac}})[0].pretraining
                        for frac in (0.0, 0.5))
    assert 0.3 < int(most.trained_mask.sum()) / int(everything.trained_mask.sum()) < 0.7


# -- models, data ---------------------------------------------------------------------------------------------------------------


def test_the_saved_policy_and_critic_open_in_plain_transformers(small, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    train_ppo(ppo_config(small, tmp_path / "run", {"algo": {"num_iterations": 1}}))
    checkpoint = tmp_path / "run/ckpt/step-000001"
    tokens = torch.tensor([[1, 4, 30, 31]])
    plain = AutoModelForCausalLM.from_pretrained(checkpoint / "model", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(plain(input_ids=tokens).logits, open_policy(checkpoint / "model")(input_ids=tokens).logits)
    critic = AutoModelForSequenceClassification.from_pretrained(checkpoint / "critic", dtype=torch.float32)
    assert critic.config.num_labels == 1 and critic.config.score_shift == pytest.approx(0.7)


def test_weights_that_are_not_saved_are_seen(small, tmp_path, monkeypatch):
    from tutelage.models import actor_critic

    other = open_policy(small.base)
    monkeypatch.setattr(actor_critic, "save_policy", lambda model, tokenizer, folder: save_policy(other, tokenizer, folder))
    with pytest.raises(AuditError, match="gives outputs that differ"):
        train_ppo(ppo_config(small, tmp_path / "run", {"algo": {"num_iterations": 1}}))


def test_a_shared_trunk_that_is_saved_reopens_to_the_same_values(start):
    players, cfg, run = start({"critic": {"kind": "shared"}, "algo": {"num_iterations": 1}})
    ppo(players, cfg, run)
    checkpoint = run.folder / "ckpt/step-000001"
    reopened = SharedTrunk(open_policy(checkpoint / "model"), checkpoint / "critic/value_head.safetensors")
    tokens = torch.tensor([players.prompt_tokens[0]])
    with torch.no_grad():
        one, two = (m.values(tokens, torch.ones_like(tokens, dtype=torch.bool)) for m in (players.actor_critic, reopened))
    assert torch.equal(one, two) and one.abs().sum() > 0


def test_prompts_that_leave_no_room_for_an_answer_are_left_out_and_counted(start, small, tmp_path, caplog):
    from tests.small import write_rows

    file = write_rows(tmp_path / "p.jsonl", [{"prompt": "cat " * 60}, {"prompt": "where is cat?"}])
    players, _, _ = start({"data": {"files": [str(file)], "eval_frac": 0}})
    assert len(players.prompts) == 1 and players.left_out == 1 and "1 of 2 prompts are left out" in caplog.text
    with pytest.raises(DataError, match="leaves room for 100 response tokens in a context of 48"):
        train_ppo(ppo_config(small, tmp_path / "run", {"rollout": {"max_tokens": 100}}))


@pytest.mark.parametrize(("over", "says"), [({"algo": {"minibatch_size": 3}}, "batch_size=8 is not a multiple of minibatch_size=3"),
                                            ({"ptx": {"coef": 1.0}}, "files and coef go together")])
def test_impossible_sizes_are_refused_by_the_config(small, tmp_path, over, says):
    with pytest.raises(ConfigError, match=says):
        config(
            PPOConfig,
            tmp_path,
            {"model": {"policy": "p", "reward": "r"}, "data": {"files": ["x"]}, "algo": {"batch_size": 8, "minibatch_size": 4}},
            over,
        )


def test_the_reward_sees_the_policys_own_tokens_when_the_vocabularies_agree(start):
    players, _, _ = start()
    assert isinstance(players.reward, ModelReward) and players.reward.reads_policy_tokens


def test_a_dry_run_logs_nothing_of_the_iterations_it_measures_with(small, tmp_path, caplog):
    with caplog.at_level("INFO"):
        shown = recipe.preview(ppo_config(small, tmp_path / "run"))
    assert not [line for line in caplog.messages if "iteration" in line] and shown["forecast"]["seconds_per_step"] > 0
    assert not (tmp_path / "run").exists()
