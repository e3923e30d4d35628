import pytest
import torch

from tests.models.tiny import CONFIGS, random_rows, right_padded, tiny, word_tokenizer
from tutelage.base.errors import ArtifactError
from tutelage.models.actor_critic import SeparateNetworks, SharedTrunk
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import save_policy, token_logprobs_and_entropy

TOKENS, MASK = right_padded(random_rows([4, 9, 6]))


def separate(name: str, folder) -> SeparateNetworks:
    model = tiny(name)
    save_policy(model, word_tokenizer(), folder / "policy")
    return SeparateNetworks(model, ScoredModel.from_policy(folder / "policy", seed=1).rescale_(1.0, 0.3))


def shared(name: str, folder) -> SharedTrunk:
    trunk = SharedTrunk(tiny(name))
    torch.manual_seed(5)
    torch.nn.init.normal_(trunk.value_head.weight)
    torch.nn.init.constant_(trunk.value_head.bias, 0.3)
    return trunk


BOTH = pytest.mark.parametrize("make", [separate, shared])


@pytest.mark.parametrize("name", CONFIGS)
@BOTH
def test_evaluate_agrees_with_the_policy_alone_and_with_values(name, make, tmp_path):
    players = make(name, tmp_path)
    with torch.no_grad():
        logprobs, values, entropy = players.evaluate(TOKENS, MASK, temperature=0.7)
        expected = token_logprobs_and_entropy(players.policy, TOKENS, MASK, temperature=0.7)
        for found, want in zip((logprobs, entropy, values), (*expected, players.values(TOKENS, MASK)), strict=True):
            torch.testing.assert_close(found, want, rtol=0, atol=5e-5)
            assert not found[~MASK].any()


@BOTH
def test_the_value_at_t_reads_the_prefix_before_t_alone(make, tmp_path):
    players = make("llama", tmp_path)
    with torch.no_grad():
        values, after = players.values(TOKENS, MASK), players.last_values(TOKENS, MASK)
        for row, length in enumerate(MASK.sum(1).tolist()):
            prefixes = [players.last_values(TOKENS[row : row + 1, :t], MASK[row : row + 1, :t])[0] for t in range(1, length + 1)]
            torch.testing.assert_close(values[row, 1:length], torch.stack(prefixes[:-1]), rtol=0, atol=5e-5)
            torch.testing.assert_close(after[row], prefixes[-1], rtol=0, atol=5e-5)
    assert not values[:, 0].any() and values[:, 1:][MASK[:, 1:]].abs().min() > 0


@BOTH
def test_padding_never_reaches_a_result(make, tmp_path):
    players = make("llama", tmp_path)
    other = torch.where(MASK, TOKENS, 17)
    with torch.no_grad():
        for one, two in zip(players.evaluate(TOKENS, MASK, temperature=1.0), players.evaluate(other, MASK, temperature=1.0), strict=True):
            assert torch.equal(one, two)
        assert torch.equal(players.last_values(TOKENS, MASK), players.last_values(other, MASK))


def test_a_shared_value_head_starts_at_zero_and_its_trunk_belongs_to_the_policy():
    trunk = SharedTrunk(tiny("llama"))
    assert not trunk.values(TOKENS, MASK).any()
    (policy_name, policy), (critic_name, head) = trunk.networks()
    assert (policy_name, critic_name) == ("policy", "critic") and policy is trunk.policy and head is trunk.value_head
    assert not {id(p) for p in policy.parameters()} & {id(p) for p in head.parameters()}


def test_separate_networks_share_no_parameter(tmp_path):
    (_, policy), (_, critic) = separate("llama", tmp_path).networks()
    assert not {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in critic.parameters()}


def test_a_shared_trunk_saves_and_reopens_its_head(tmp_path):
    trunk = shared("llama", tmp_path)
    trunk.save(tmp_path / "ckpt", word_tokenizer())
    again = SharedTrunk(tiny("llama"), tmp_path / "ckpt/critic/value_head.safetensors")
    with torch.no_grad():
        assert torch.equal(again.values(TOKENS, MASK), trunk.values(TOKENS, MASK))


@pytest.mark.parametrize("damage", ["missing", "another width"])
def test_a_value_head_that_does_not_fit_is_named(tmp_path, damage):
    from safetensors.torch import save_file

    file = tmp_path / "value_head.safetensors"
    if damage == "another width":
        save_file({"weight": torch.zeros(1, 7), "bias": torch.zeros(1)}, file)
    with pytest.raises(ArtifactError, match="holds no value head of width 32"):
        SharedTrunk(tiny("llama"), file)
