import pytest

from tutelage.base.records import Completion, Message
from tutelage.rollout.batch import Rollout
from tutelage.text.chat import encode_example, encode_prompt
from tutelage.text.tokenizer import open_tokenizer

PROMPTS = [(Message("user", "where is cat?"),), (Message("user", "where is owl 3?"),), (Message("user", "where is dog?"),)]


@pytest.fixture(scope="module")
def tokenizer(small):
    return open_tokenizer(small.sft)


@pytest.fixture(scope="module")
def rollout(tokenizer) -> Rollout:
    """Two answers that ended and one that was cut off."""
    prompts = [encode_prompt(tokenizer, p) for p in PROMPTS]
    answers = [encode_example(tokenizer, p, t).tokens[len(tokens) :] for p, t, tokens in
               zip(PROMPTS, ("in the barn", "in the pond with cat", "in the"), prompts, strict=True)]
    answers[2] = answers[2][:-1]
    completions = [Completion(tuple(a), (-1.0,) * len(a), "stop" if i < 2 else "length", 0) for i, a in enumerate(answers)]
    return Rollout.collate(prompts, completions, tokenizer.pad_token_id)
