import pytest
import torch

from tests.models.tiny import word_tokenizer
from tutelage.base.errors import ConfigError
from tutelage.models.presets import PRESETS, new_policy, preset_config


@pytest.mark.parametrize("name", PRESETS)
def test_heads_are_64_wide_and_embeddings_tied(name):
    # Head sizes that the kernels of serving engines are compiled for.
    config = preset_config(name, word_tokenizer(), context_tokens=128)
    assert config.head_dim == 64 and config.num_attention_heads * 64 == config.hidden_size
    assert config.tie_word_embeddings and config.attention_dropout == 0


def test_nano_has_the_parameters_its_widths_imply():
    vocab, d, ffn, layers = 1200, 128, 352, 4
    policy = new_policy("nano", word_tokenizer(vocab), context_tokens=64, seed=0)
    # Embedding (tied), per layer four attention and three feed-forward matrices and two norms, and the last norm.
    assert sum(p.numel() for p in policy.parameters()) == vocab * d + layers * (4 * d * d + 3 * d * ffn + 2 * d) + d


def test_the_seed_decides_the_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected_next = torch.rand(3)
    torch.manual_seed(5)
    first = new_policy("nano", word_tokenizer(), context_tokens=64, seed=1)
    assert torch.equal(torch.rand(3), expected_next)
    again, other = (new_policy("nano", word_tokenizer(), context_tokens=64, seed=s) for s in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_special_ids_come_from_the_tokenizer():
    config = preset_config("nano", word_tokenizer(), context_tokens=64)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.max_position_embeddings) == (0, 1, 2, 64)


@pytest.mark.parametrize(("name", "context", "words"), [("nan", 64, "'nan'"), ("nano", 1, "context_tokens=1")])
def test_impossible_sizes_are_named(name, context, words):
    with pytest.raises(ConfigError, match=words):
        new_policy(name, word_tokenizer(), context_tokens=context, seed=0)
