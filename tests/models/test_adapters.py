"""LoRA roles on one base: nothing leaks, nothing is lost on disk, and plain peft + transformers read the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.models.tiny import CONFIGS, CONTEXT, random_rows, right_padded, tiny, word_tokenizer
from tutelage.base.errors import ArtifactError, ConfigError
from tutelage.models import peft_folders
from tutelage.models.adapters import Roles, open_adapted_policy, open_adapted_reward
from tutelage.models.folders import is_scored
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, resolve_model, save_policy, token_logits

LORA = {"rank": 3, "alpha": 6.0, "targets": []}
ARCHITECTURES = [*CONFIGS, "mistral, sliding window", "opt, learned positions", "bloom, positions from the mask"]
TOKENS, MASK = right_padded(random_rows([9, CONTEXT // 2, 4]))


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Folders of tiny models by architecture."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("base") / "model"
            save_policy(tiny(name), word_tokenizer(), made[name])
        return made[name]

    return folder


def stir(roles: Roles, role: str, seed: int = 1) -> None:
    """Weights as after training: B is not 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in roles.parameters(role):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)


def plain_logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return token_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), TOKENS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_new_adapter_changes_no_logit_and_a_trained_one_leaves_the_base_alone(base_of, name):
    plain = plain_logits(base_of(name))
    policy = open_adapted_policy(base_of(name), tokenizer=word_tokenizer(), **LORA)
    reference = policy.roles.causal(None)
    assert torch.equal(token_logits(policy, TOKENS), plain)          # B = 0
    stir(policy.roles, "policy")
    assert (token_logits(policy, TOKENS) - plain).abs().max() > 0.01
    assert torch.equal(token_logits(reference, TOKENS), plain)       # not one bit: the adapter is off, not subtracted


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_saved_policy_opens_in_plain_peft_and_merged_with_equal_logits(base_of, tmp_path, name):
    policy = open_adapted_policy(base_of(name), tokenizer=word_tokenizer(), **LORA)
    stir(policy.roles, "policy")
    with torch.no_grad():
        ours = token_logits(policy, TOKENS)
        save_policy(policy, word_tokenizer(), tmp_path / "adapter")
        peft = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter", dtype=torch.float32)
        assert torch.equal(token_logits(peft, TOKENS), ours)
        assert_close(token_logits(open_policy(tmp_path / "adapter"), TOKENS), ours, rtol=1e-4, atol=1e-4)        # merged
        again = open_adapted_policy(tmp_path / "adapter", tokenizer=word_tokenizer(), **LORA)                    # to train on
        assert torch.equal(token_logits(again, TOKENS), ours)


@pytest.mark.parametrize("name", [*CONFIGS, "mistral, sliding window"])
def test_a_saved_reward_opens_in_plain_peft_with_equal_scores_up_to_its_shift(base_of, tmp_path, name):
    reward = open_adapted_reward(base_of(name), tokenizer=word_tokenizer(), seed=5, **LORA)
    stir(reward.roles, "reward")
    reward.rescale_(2.0, 0.75)
    assert torch.equal(reward.head.weight / 2, ScoredModel.from_policy(base_of(name), seed=5).head.weight)
    with torch.no_grad():
        ours = reward.score(TOKENS, MASK)
        reward.save(tmp_path / "adapter", word_tokenizer())
        plain = AutoModelForSequenceClassification.from_pretrained(base_of(name), num_labels=1, dtype=torch.float32)
        peft = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
        assert_close(peft(input_ids=TOKENS, attention_mask=MASK.long()).logits[:, 0] + 0.75, ours, rtol=1e-4, atol=1e-4)
        assert is_scored(tmp_path / "adapter")
        assert_close(ScoredModel.open(tmp_path / "adapter").score(TOKENS, MASK), ours, rtol=1e-4, atol=1e-4)     # merged
        again = open_adapted_reward(tmp_path / "adapter", tokenizer=word_tokenizer(), **LORA)
        assert torch.equal(again.score(TOKENS, MASK), ours)


def three_roles(folder: Path):
    """(roles, policy, critic, reward model, reference) on one base, all adapters different from 0."""
    roles = Roles.open(folder, tokenizer=word_tokenizer())
    for number, role in enumerate(("policy", "critic", "reward")):
        roles.add(role, seed=number, **LORA)
        stir(roles, role, seed=number)
    return roles, roles.causal("policy"), roles.scored("critic", seed=1), roles.scored("reward", seed=2), roles.causal(None)


def outputs(policy, critic, reward, reference) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {"policy": token_logits(policy, TOKENS), "critic": critic.values(TOKENS, MASK), "reward": reward.score(TOKENS, MASK),
                "reference": token_logits(reference, TOKENS)}


@pytest.mark.parametrize("name", CONFIGS)
def test_roles_do_not_leak_into_each_other(base_of, name):
    roles, *models = three_roles(base_of(name))
    before = outputs(*models)
    assert torch.equal(before["reference"], plain_logits(base_of(name)))
    for changed in ("policy", "critic", "reward"):
        stir(roles, changed, seed=9)
        after = outputs(*models)
        assert [role for role in before if not torch.equal(before[role], after[role])] == [changed]
        before = after


@pytest.mark.parametrize("name", CONFIGS)
def test_a_joint_backward_pass_gives_each_role_the_gradient_it_has_alone(base_of, name):
    # The roles are switched between the forward passes and not back before the one backward pass.
    def gradients(policy_weight: float, critic_weight: float) -> dict[str, list[torch.Tensor]]:
        roles, policy, critic, _, _ = three_roles(base_of(name))
        loss = policy_weight * token_logits(policy, TOKENS).logsumexp(-1).sum() + critic_weight * critic.values(TOKENS, MASK).square().sum()
        loss.backward()
        return {role: [torch.zeros_like(p) if p.grad is None else p.grad for p in roles.parameters(role)]
                for role in ("policy", "critic", "reward")}

    joint, policy_alone, critic_alone = gradients(1.0, 1.0), gradients(1.0, 0.0), gradients(0.0, 1.0)
    for one, other in zip(joint["policy"] + joint["critic"], policy_alone["policy"] + critic_alone["critic"], strict=True):
        assert torch.equal(one, other)
    untouched = joint["reward"] + policy_alone["critic"] + critic_alone["policy"]
    assert all(not g.any() for g in untouched) and all(g.any() for g in joint["policy"] + joint["critic"])


def test_only_the_roles_that_train_have_gradients(base_of):
    roles, *_ = three_roles(base_of("llama"))
    trained = {id(p) for role in ("policy", "critic", "reward") for p in roles.parameters(role)}
    assert {id(p) for p in roles.model.parameters() if p.requires_grad} == trained
    roles.add("later", seed=0, **LORA)                               # PEFT would now train this one alone
    trained |= {id(p) for p in roles.parameters("later")}
    assert {id(p) for p in roles.model.parameters() if p.requires_grad} == trained


def test_an_adapter_made_by_the_peft_library_is_a_role_and_a_whole_model(base_of, tmp_path):
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj"], use_rslora=True, init_lora_weights="gaussian",
                        rank_pattern={"layers.0.self_attn.q_proj": 2}, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_of("llama"), dtype=torch.float32), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
        expected = token_logits(model, TOKENS)
        model.save_pretrained(tmp_path)
        assert_close(token_logits(open_policy(tmp_path), TOKENS), expected, rtol=1e-4, atol=1e-4)
        role = open_adapted_policy(tmp_path, tokenizer=word_tokenizer(), **LORA)
        assert_close(token_logits(role, TOKENS), expected, rtol=1e-6, atol=1e-6)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(base_of, tmp_path) -> Path:
    save_policy(open_adapted_policy(base_of("llama"), tokenizer=word_tokenizer(), **LORA), word_tokenizer(), tmp_path / "adapter")
    return tmp_path / "adapter"


def rewrite(folder: Path, **values: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def stand_on_itself(folder: Path, other: Path) -> None:
    shutil.copy(other / "config.json", folder)
    rewrite(folder, base_model_name_or_path=str(folder))


def test_modules_named_by_a_pattern_are_those_it_matches(base_of, tmp_path):
    config = LoraConfig(r=2, target_modules=r"(?i).*\.Self_Attn\.[qv]_proj", rank_pattern={r"layers\.[01]\.self_attn\.v_proj": 3})
    get_peft_model(AutoModelForCausalLM.from_pretrained(base_of("llama"), dtype=torch.float32), config).save_pretrained(tmp_path)
    roles = open_adapted_policy(tmp_path, tokenizer=word_tokenizer(), rank=2, alpha=1.0, targets=[]).roles
    assert sorted({(tuple(p.shape)[0]) for p in roles.parameters("policy")[::2]}) == [2, 3]
    assert_close(token_logits(open_policy(tmp_path), TOKENS), plain_logits(base_of("llama")), rtol=1e-4, atol=1e-4)     # B = 0


def test_an_adapter_is_found_in_a_checkpoint_and_named_as_what_it_is(adapter, tmp_path):
    target = tmp_path / "ckpt" / "adapters" / "policy"
    target.parent.mkdir(parents=True)
    adapter.rename(target)
    assert resolve_model(tmp_path / "ckpt") == target and not is_scored(tmp_path / "ckpt")


def test_a_rank_other_than_the_adapters_is_refused(adapter):
    with pytest.raises(ConfigError, match=r"is an adapter of rank 3, and lora.rank=4") as error:
        open_adapted_policy(adapter, tokenizer=word_tokenizer(), rank=4, alpha=1.0, targets=[])
    assert "lora.rank=3" in str(error.value.hint)


def test_an_unknown_target_names_the_nearest(base_of):
    with pytest.raises(ConfigError, match=r"no linear layer is called 'q_pro' .*did you mean q_proj"):
        open_adapted_policy(base_of("llama"), tokenizer=word_tokenizer(), rank=4, alpha=1.0, targets=["q_pro"])


@pytest.mark.parametrize(("harm", "says"), [
    (lambda a, b: (a / "adapter_config.json").write_text("{"), "damaged adapter"),
    (lambda a, b: (a / "adapter_config.json").write_text("[]"), "damaged adapter"),
    (lambda a, b: rewrite(a, peft_type="IA3"), "adapter of type IA3"),
    (lambda a, b: rewrite(a, base_model_name_or_path=str(b / "gone")), "no model folder here"),
    (lambda a, b: rewrite(a, base_model_name_or_path=str(b)), "trained on other weights"),
    (lambda a, b: stand_on_itself(a, b), "its base is an adapter itself"),
    (lambda a, b: (a / "adapter_config.json").write_text("[" * 100_000), "damaged adapter: .*recursion"),
    (lambda a, b: (a / "tutelage.json").write_text("[" * 100_000), "damaged adapter: .*recursion"),
    (lambda a, b: (a / "tutelage.json").write_text('{"score_shift": ' + "9" * 400 + "}"), "score_shift is 9{40}, not a number"),
    (lambda a, b: rewrite(a, lora_alpha=10**400), "lora_alpha is 10*, not a number"),
    (lambda a, b: rewrite(a, lora_alpha=float("nan")), "lora_alpha is nan, not a number"),
    (lambda a, b: rewrite(a, alpha_pattern={"q_proj": float("inf")}), "q_proj is inf, not a number"),
    (lambda a, b: rewrite(a, target_modules="("), r"a pattern that cannot be used \(\(\): missing \)"),
    (lambda a, b: rewrite(a, rank_pattern={"(": 2}), r"a pattern that cannot be used \(\(\): missing \)"),
    (lambda a, b: rewrite(a, target_modules="(.*)*(.*)*x$"), "a pattern that cannot be used .*: not done after"),
    (lambda a, b: (a / "adapter_model.safetensors").write_bytes(b"x" * 50), "header too large"),
    (lambda a, b: (a / "adapter_model.safetensors").rename(a / "adapter_model.bin"), "no adapter_model.safetensors"),
])
def test_what_is_wrong_with_an_adapter_folder_is_one_line(adapter, base_of, tmp_path, monkeypatch, harm, says):
    monkeypatch.setattr(peft_folders, "_PATTERN_SECONDS", 0.3)
    harm(adapter, base_of("qwen2"))
    for opens in (lambda: open_policy(adapter), lambda: open_adapted_policy(adapter, tokenizer=word_tokenizer(), **LORA)):
        with pytest.raises(ArtifactError, match=says) as error:
            opens()
        assert "\n" not in str(error.value) and error.value.hint


@pytest.mark.parametrize("change", [
    lambda tensors: {name.replace(".model.layers.", ".trunk.layers."): t for name, t in tensors.items()},
    lambda tensors: {name: t for name, t in tensors.items() if "lora_A" in name},
    lambda tensors: tensors | {name.replace(".layers.0.", ".layers.7."): t.clone() for name, t in tensors.items()},
], ids=["other names", "one side", "more layers"])
def test_an_adapter_of_another_model_is_refused_and_not_left_out(adapter, change):
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    for opens in (lambda: open_policy(adapter), lambda: open_adapted_policy(adapter, tokenizer=word_tokenizer(), **LORA)):
        with pytest.raises(ArtifactError, match="does not fit|more than plain LoRA"):
            opens()


def test_an_adapter_that_was_taken_out_of_its_base_is_no_role(adapter):
    rewrite(adapter, init_lora_weights="pissa")
    with pytest.raises(ArtifactError, match=r"changes the base it stands on \(init_lora_weights=pissa\)"):
        open_adapted_policy(adapter, tokenizer=word_tokenizer(), **LORA)


def test_an_adapter_that_changes_more_than_a_role_can_is_refused_but_can_be_merged(base_of, tmp_path):
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base_of("qwen2"), dtype=torch.float32), config).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="lm_head.*, which is more than plain LoRA"):
        open_adapted_policy(tmp_path, tokenizer=word_tokenizer(), rank=2, alpha=1.0, targets=[])
    assert_close(token_logits(open_policy(tmp_path), TOKENS), plain_logits(base_of("qwen2")), rtol=1e-4, atol=1e-4)     # B = 0
