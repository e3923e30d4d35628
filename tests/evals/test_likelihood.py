"""Perplexity of held-out conversations, against models whose probabilities are known without running them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tutelage.base.records import Message
from tutelage.evals.likelihood import likelihood, ratio_ci, trained_bytes
from tutelage.models import new_policy
from tutelage.text.chat import encode_example
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer

TALK = (Message("user", "tea?"), Message("assistant", "oui café"), Message("user", "more?"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["tea? oui café, more? no."] * 5, vocab_size=300, out_dir=folder)
    return open_tokenizer(folder)


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity(tokenizer):
    policy = new_policy("nano", tokenizer, context_tokens=64, seed=0)
    with torch.no_grad():
        policy.get_input_embeddings().weight.zero_()                 # tied: every logit is 0
    examples = [encode_example(tokenizer, TALK, "no", train_on="assistant_turns"), encode_example(tokenizer, TALK[:1], "no")]
    found = likelihood(policy, tokenizer, examples, batch_size=1)
    size = len(tokenizer)
    assert [found["perplexity"][k] for k in ("mean", "low", "high")] == pytest.approx([size] * 3, rel=1e-4)
    said = len("oui café".encode()) + 2 * len("no")
    assert found["bits_per_byte"]["mean"] == pytest.approx(found["tokens"] * math.log2(size) / said, rel=1e-5)
    assert found["tokens"] == sum(sum(e.response_mask) for e in examples)


def test_bytes_are_those_of_the_trained_turns_alone(tokenizer):
    assert trained_bytes(tokenizer, encode_example(tokenizer, TALK, "no")) == 2
    assert trained_bytes(tokenizer, encode_example(tokenizer, TALK, "no", train_on="assistant_turns")) == len("oui caféno".encode())


def test_a_ratio_weighs_rows_by_their_size_and_has_no_interval_from_one_row_and_no_value_from_none():
    found = ratio_ci(np.array([1.0, 30.0]), np.array([1.0, 10.0]))
    assert found["mean"] == pytest.approx(31 / 11) and (found["low"], found["high"]) == (1.0, 3.0)
    assert math.isnan(ratio_ci(np.zeros(0), np.zeros(0))["mean"])
    one = ratio_ci(np.array([6.0]), np.array([2.0]))                 # drawn again and again one row would claim certainty
    assert one["mean"] == 3.0 and math.isnan(one["low"]) and math.isnan(one["high"])
