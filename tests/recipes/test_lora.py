"""LoRA through the recipes: sft, reward and ppo train adapters only, and what they leave can be opened by anybody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.recipes.test_resume import Killed, kill_at, last_checkpoint, rows
from tests.small import config, open_players, ppo_config, reward_config, same_weights, sft_config
from tutelage.base.errors import ConfigError, MissingExtraError
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, resolve_model, save_policy, token_logprobs
from tutelage.models.presets import new_policy
from tutelage.recipes.evaluate import EvaluateConfig, evaluate
from tutelage.recipes.export import export_model
from tutelage.recipes.ppo import ppo, train_ppo
from tutelage.recipes.reward_model import train_reward_model
from tutelage.recipes.sft import train_sft
from tutelage.text.tokenizer import open_tokenizer

PPO = {"algo": {"num_iterations": 4, "kl_target": 0.5, "normalize_scores": True}, "save": {"every_steps": 1}}
LORA = {"lora": {"rank": 4, "alpha": 8.0}}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> dict[str, Path]:
    """An SFT adapter on the base, and a reward adapter that goes on from it."""
    root = tmp_path_factory.mktemp("lora")
    train_sft(sft_config(small, root / "sft", LORA, {"model": {"policy": str(small.sft)}}))
    train_reward_model(reward_config(small, root / "reward", LORA, {"model": {"policy": str(root / "sft")}}))
    return {"sft": root / "sft", "reward": root / "reward"}


def rows_of(small) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.tensor(open_tokenizer(small.sft)("where is cat 3? in the barn")["input_ids"])[None]
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def with_models(policy: Path, reward: Path, init: str = "reward") -> dict:
    return {"model": {"policy": str(policy), "reward": str(reward)}, "critic": {"init": init}}


def test_what_a_run_leaves_is_small_and_found_by_its_folder(small, trained):
    adapter = resolve_model(trained["sft"])
    assert adapter.parent.parent.name.startswith("step-") and adapter.parts[-2:] == ("adapters", "policy")
    names = load_file(adapter / "adapter_model.safetensors")
    assert names and all(".lora_" in name for name in names)
    reward = load_file(resolve_model(trained["reward"]) / "adapter_model.safetensors")
    assert {name for name in reward if ".lora_" not in name} == {"base_model.model.score.weight"}
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(small.sft)
    assert not (adapter.parent.parent / "model").exists()


def test_the_checkpoints_of_adapters_are_judged_as_those_of_whole_models_are(small, trained, tmp_path):
    models = with_models(trained["sft"], trained["reward"])
    done = train_ppo(ppo_config(small, tmp_path / "ppo", LORA, models, {"save": {"every_steps": 1}}))
    evaluate(config(EvaluateConfig, tmp_path / "evaluate", {
        "models": {"sft": {"path": str(trained["sft"])}, "ppo": {"path": done["path"]}}, "reward": str(trained["reward"]),
        "data": {"files": [str(small.prompts)], "eval_frac": 0.4}, "rollout": {"max_tokens": 6}, "max_prompts": 8,
        "frontier": {"run": done["path"], "max_prompts": 8}}))
    points = json.loads((tmp_path / "evaluate/report/report.json").read_text())["frontier"]
    assert [point["step"] for point in points] == [1, 2] and points[1]["kl"] != 0.0


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_exported_and_unmerged_models_agree(small, trained, tmp_path, kind):
    done = export_model(trained[kind], tmp_path / "out")
    assert done["merged"] and not (tmp_path / "out" / "adapter_config.json").exists()
    tokens, mask = rows_of(small)
    with torch.no_grad():
        if kind == "sft":
            one, other = (token_logprobs(open_policy(f), tokens, mask) for f in (trained[kind], tmp_path / "out"))
        else:
            one, other = (ScoredModel.open(f).score(tokens, mask) for f in (trained[kind], tmp_path / "out"))
    assert_close(one, other, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="is there already"):
        export_model(trained[kind], tmp_path / "out")


def test_every_player_on_one_base_shares_its_memory(small, trained, tmp_path):
    def storages(*models) -> set[int]:
        return {p.untyped_storage().data_ptr() for m in models for p in m.parameters()}

    players, run = open_players(ppo_config(small, tmp_path / "run", LORA, with_models(trained["sft"], trained["reward"])))
    with run:
        policy, critic = players.actor_critic.policy, players.actor_critic.critic
        together = storages(policy, critic.model, players.ref_policy, players.reward.model.model)
        base = {p.untyped_storage().data_ptr() for n, p in policy.named_parameters() if "lora_" not in n}
        heads = storages(critic.head, players.reward.model.head)
        adapters = {p.untyped_storage().data_ptr() for role in ("policy", "critic", "reward0", "reference")
                    for p in policy.roles.parameters(role)}
        assert together == base | heads | adapters and base.isdisjoint(heads | adapters)
        assert len(base) == len(list(open_policy(small.sft).parameters()))


@pytest.mark.parametrize("case", ["whole policy and reward", "adapters", "reward adapter of the same base, critic from the policy"])
def test_ppo_moves_policy_and_critic_and_nothing_else(small, trained, tmp_path, case):
    models = {"whole policy and reward": with_models(small.sft, small.reward),
              "adapters": with_models(trained["sft"], trained["reward"]),
              "reward adapter of the same base, critic from the policy": with_models(small.sft, trained["reward"], "policy")}[case]
    cfg = ppo_config(small, tmp_path / "run", LORA, models, {"optim": {"learning_rate": 1e-2}})
    players, run = open_players(cfg)
    tokens, mask = rows_of(small)

    def outputs() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return {"policy": token_logprobs(players.actor_critic.policy, tokens, mask),
                    "critic": players.actor_critic.values(tokens, mask), "reference": token_logprobs(players.ref_policy, tokens, mask),
                    "reward": players.reward.model.score(tokens, mask)}

    with torch.no_grad():
        start = resolve_model(models["model"]["policy"])
        original = token_logprobs(open_policy(start, tokenizer=players.tokenizer), tokens, mask)
    with run:
        before = outputs()
        assert_close(before["policy"], original, rtol=1e-5, atol=1e-5)
        assert torch.equal(before["reference"], before["policy"])
        if start == small.sft:
            assert torch.equal(before["reference"], original)        # adapters off is the base, not nearly
        done = ppo(players, cfg, run)
        after = outputs()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["policy", "critic"]
    assert_close(token_logprobs(open_policy(done["model"], tokenizer=players.tokenizer), tokens, mask), after["policy"],
                 rtol=1e-5, atol=1e-5)
    saved = Path(done["model"]).parent / "critic"
    assert_close(ScoredModel.open(saved, tokenizer=players.tokenizer).values(tokens, mask), after["critic"], rtol=1e-5, atol=1e-5)


def test_while_only_the_critic_learns_its_adapter_does_and_the_policys_does_not(small, trained, tmp_path):
    cfg = ppo_config(small, tmp_path / "run", LORA, with_models(small.sft, trained["reward"]), {"critic": {"warmup_iterations": 9}})
    players, run = open_players(cfg)
    policy, critic = (dict(players.actor_critic.networks())[n] for n in ("policy", "critic"))
    before = {name: [p.clone() for p in module.parameters()] for name, module in (("policy", policy), ("critic", critic))}
    with run:
        ppo(players, cfg, run)
    assert all(torch.equal(a, b) for a, b in zip(before["policy"], policy.parameters(), strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(before["critic"], critic.parameters(), strict=True))


def test_a_reward_adapter_with_a_token_more_brings_its_own_base_and_leaves_the_policys_as_wide_as_it_was(small, trained, tmp_path):
    tokenizer = open_tokenizer(resolve_model(trained["reward"]))
    tokenizer.add_special_tokens({"pad_token": "<|another pad|>"})
    folder = shutil.copytree(resolve_model(trained["reward"]), tmp_path / "reward")
    tokenizer.save_pretrained(folder)
    players, run = open_players(ppo_config(small, tmp_path / "run", LORA, with_models(trained["sft"], folder, "policy")))
    with run, torch.no_grad():
        judge, policy = players.reward.model, players.actor_critic.policy
        assert policy.get_input_embeddings().weight.shape[0] == judge.model.get_input_embeddings().weight.shape[0] - 1
        tokens, mask = rows_of(small)
        assert_close(judge.score(tokens, mask), ScoredModel.open(trained["reward"]).score(tokens, mask), rtol=1e-5, atol=1e-5)
        assert torch.isfinite(judge.score(torch.tensor([[*tokens[0], tokenizer.pad_token_id]]), torch.tensor([[*mask[0], False]]))).all()


def test_settings_that_do_not_go_together_say_so(small, trained, tmp_path):
    for name, over, says in [("b", {"lora": {"rank": 2}, "model": {"policy": str(trained["sft"])}}, "adapter of rank 4, and lora.rank=2"),
                             ("c", {"lora": {"rank": 0}, "memory": {"base": "4bit"}}, "needs a base that stays as it is")]:
        with pytest.raises(ConfigError, match=says):
            train_ppo(ppo_config(small, tmp_path / name, LORA, over))


def test_without_bitsandbytes_its_settings_end_with_exit_code_4(small, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    for name, over in [("a", {"memory": {"optimizer": "8bit"}}), ("b", LORA | {"memory": {"base": "4bit"}})]:
        with pytest.raises(MissingExtraError) as error:
            train_sft(sft_config(small, tmp_path / name, over))
        assert error.value.exit_code == 4


@pytest.mark.parametrize("recipe", ["sft", "reward", "ppo", "ppo, base of the reward model", "ppo, shared trunk"])
def test_a_resumed_run_with_adapters_ends_with_the_weights_and_metrics_of_an_undisturbed_one(small, trained, tmp_path, monkeypatch, recipe):
    train, make, over = {
        "sft": (train_sft, sft_config, {"eval": {"every_steps": 2}, "save": {"every_steps": 2}}),
        "reward": (train_reward_model, reward_config, {"model": {"policy": str(trained["sft"])}}),
        "ppo": (train_ppo, ppo_config, with_models(trained["sft"], trained["reward"]) | PPO),
        "ppo, base of the reward model": (train_ppo, ppo_config, PPO),
        "ppo, shared trunk": (train_ppo, ppo_config, PPO | {"critic": {"kind": "shared"}}),
    }[recipe]
    train(make(small, tmp_path / "undisturbed", LORA, over))
    last = len(rows(tmp_path / "undisturbed")) - 1
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(last, patch)
        train(make(small, tmp_path / "killed", LORA, over))
    train(make(small, tmp_path / "killed", LORA, over, {"resume": True}))
    assert same_weights(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "undisturbed"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "undisturbed") and len(rows(tmp_path / "killed")) == last + 1


@pytest.mark.parametrize(("train", "make", "base"), [(train_sft, sft_config, "8bit"), (train_sft, sft_config, "4bit"),
                                                     (train_reward_model, reward_config, "4bit")])
def test_with_bitsandbytes_a_quantised_base_and_8_bit_moments_resume_to_the_same_weights(small, tmp_path, monkeypatch, train, make, base):
    tokenizer = open_tokenizer(small.sft)
    save_policy(new_policy("micro", tokenizer, context_tokens=48, seed=0), tokenizer, tmp_path / "wide")
    over = {"model": {"policy": str(tmp_path / "wide")}, "lora": {"rank": 64}, "memory": {"optimizer": "8bit", "base": base},
            "save": {"every_steps": 2}}
    train(make(small, tmp_path / "undisturbed", over))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(5, patch)
        train(make(small, tmp_path / "killed", over))
    done = train(make(small, tmp_path / "killed", over, {"resume": True}))
    assert same_weights(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "undisturbed"))
    moments = load_file(Path(done["model"]).parent.parent / "train" / "state.safetensors")
    assert torch.uint8 in {t.dtype for name, t in moments.items() if name.endswith("state1")}


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "lora"])
@pytest.mark.parametrize("memory", [{"precision": "bf16"}, {"checkpointing": True}, {"precision": "bf16", "checkpointing": True}],
                         ids=["bf16", "checkpointing", "both"])
def test_every_recipe_runs_with_every_memory_setting(small, tmp_path, lora, memory):
    over = (lora, {"memory": memory, "optim": {"microbatch_size": 3}})
    sft = train_sft(sft_config(small, tmp_path / "sft", *over, {"model": {"policy": str(small.sft)}}))
    reward = train_reward_model(reward_config(small, tmp_path / "reward", *over, {"model": {"policy": sft["model"]}}))
    done = train_ppo(ppo_config(small, tmp_path / "ppo", *over, {"model": {"policy": sft["model"], "reward": reward["model"]}}))
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert done["iterations"] == 2 and abs(rows[0]["objective/kl"]) < 1e-6      # policy and reference start equal in every precision
