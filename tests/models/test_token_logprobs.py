import pytest
import torch

from tests.models.tiny import CONFIGS, MORE_CONFIGS, lone_logprobs, random_rows, right_padded, tiny
from tutelage.models.policy import token_logprobs, token_logprobs_and_entropy

ROWS = random_rows([5, 19, 2, 11])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", [*CONFIGS, *MORE_CONFIGS])
def test_padded_batches_equal_each_row_alone(name, temperature):
    model = tiny(name)
    found = token_logprobs(model, *right_padded(ROWS), temperature=temperature)
    for row, got in zip(ROWS, found, strict=True):
        torch.testing.assert_close(got[:len(row)].double(), lone_logprobs(model, row, temperature), rtol=0, atol=5e-5)
        assert (got[len(row):] == 0).all()


def test_the_test_models_can_tell_positions_apart():
    # Guards the tests above: were the models nearly uniform, a wrong position would change nothing.
    for name in CONFIGS:
        model, row = tiny(name), ROWS[1]
        if name not in ("gemma2",):
            moved = model(input_ids=torch.tensor([row]), position_ids=torch.arange(len(row))[None] * 2).logits
            assert (moved - model(input_ids=torch.tensor([row])).logits).abs().max() > 1e-2, name
        assert lone_logprobs(model, row).std() > 0.3, name


@pytest.mark.parametrize("microbatch", [1, 3, 100])
def test_microbatches_change_neither_values_nor_gradients(microbatch):
    tokens, mask = right_padded(ROWS)
    whole, parts = tiny("llama"), tiny("llama")
    expected = token_logprobs(whole, tokens, mask)
    found = token_logprobs(parts, tokens, mask, microbatch=microbatch)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    expected.sum().backward()
    found.sum().backward()
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4)


def test_what_stands_in_the_padding_does_not_matter():
    model = tiny("llama")
    tokens, mask = right_padded(ROWS)
    other, _ = right_padded(ROWS, pad=7)
    torch.testing.assert_close(token_logprobs(model, other, mask), token_logprobs(model, tokens, mask), rtol=0, atol=1e-6)


def test_entropy_is_minus_the_expected_logprob():
    model, row = tiny("llama"), ROWS[3]
    tokens, mask = right_padded(ROWS)
    logprobs, entropy = token_logprobs_and_entropy(model, tokens, mask, temperature=0.7, microbatch=3)
    p = (model(input_ids=torch.tensor([row])).logits[0].double() / 0.7).softmax(-1)
    torch.testing.assert_close(entropy[3, 1:len(row)].double(), -(p * p.log()).sum(-1)[:-1], rtol=0, atol=5e-5)
    torch.testing.assert_close(logprobs, token_logprobs(model, tokens, mask, temperature=0.7), rtol=0, atol=5e-5)
    assert (entropy[~mask] == 0).all() and (entropy[:, 0] == 0).all()


def test_left_padding_is_refused():
    tokens, mask = right_padded(ROWS)
    with pytest.raises(ValueError, match="right-padded"):
        token_logprobs(tiny("llama"), tokens.flip(1), mask.flip(1))
