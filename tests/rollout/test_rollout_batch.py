import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.tiny import word_tokenizer
from tutelage.base.records import Completion
from tutelage.rollout import Rollout

PAD = 0
ids = st.integers(0, 9)                                             # the pad id is among them
rows = st.lists(
    st.tuples(st.lists(ids, min_size=1, max_size=6), st.lists(ids, min_size=1, max_size=6), st.booleans()), min_size=1, max_size=6
)


def build(drawn):
    prompts = [prompt for prompt, _, _ in drawn]
    completions = [Completion(tuple(r), tuple(-0.5 - i for i in range(len(r))), "stop" if stop else "length", 3) for _, r, stop in drawn]
    return prompts, completions, Rollout.collate(prompts, completions, PAD)


@given(rows)
def test_every_token_lands_where_its_masks_say(drawn):
    prompts, completions, rollout = build(drawn)
    assert rollout.tokens.shape[1] == max(len(p) + len(c.tokens) for p, c in zip(prompts, completions, strict=True))
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        assert rollout.tokens[row][rollout.attention_mask[row]].tolist() == [*prompt, *completion.tokens]
        assert rollout.tokens[row][rollout.response_mask[row]].tolist() == list(completion.tokens)
        assert rollout.logprobs[row][rollout.response_mask[row]].tolist() == list(completion.logprobs)
        length = len(prompt) + len(completion.tokens)
        assert rollout.attention_mask[row].nonzero().flatten().tolist() == list(range(length))
        assert rollout.response_mask[row].nonzero().flatten().tolist() == list(range(len(prompt), length))
    assert (rollout.tokens[~rollout.attention_mask] == PAD).all() and (rollout.logprobs[~rollout.response_mask] == 0).all()
    assert rollout.finished.tolist() == [c.finish_reason == "stop" for c in completions]
    assert rollout.prompt_lengths.tolist() == [len(p) for p in prompts]
    assert rollout.response_lengths.tolist() == [len(c.tokens) for c in completions]


@given(rows, st.data())
def test_selecting_rows_keeps_everything_of_each(drawn, data):
    _, completions, rollout = build(drawn)
    chosen = data.draw(st.lists(st.integers(0, len(drawn) - 1), min_size=1, max_size=8))
    for selected in (rollout.select(chosen), rollout.select(torch.tensor(chosen))):
        assert len(selected) == len(chosen)
        assert selected.completions == tuple(completions[i] for i in chosen)
        assert selected.prompt_tokens == tuple(tuple(drawn[i][0]) for i in chosen)
        for name in ("tokens", "attention_mask", "response_mask", "logprobs", "finished", "prompt_lengths"):
            for row, i in enumerate(chosen):
                assert torch.equal(getattr(selected, name)[row], getattr(rollout, name)[i])
    assert rollout.select(slice(1, None)).completions == tuple(completions[1:])


def test_texts_leave_control_tokens_out():
    rollout = Rollout.collate([[1, 5]], [Completion((7, 8, 2), (-1.0, -1.0, -1.0), "stop")], PAD)
    assert rollout.texts(word_tokenizer()) == ["w7 w8"]
    assert rollout.to("cpu").completions == rollout.completions


@pytest.mark.parametrize(("prompts", "completions"), [([], []), ([[1]], [])])
def test_a_rollout_needs_a_completion_for_each_prompt(prompts, completions):
    with pytest.raises(ValueError, match="make no rollout"):
        Rollout.collate(prompts, completions, PAD)
