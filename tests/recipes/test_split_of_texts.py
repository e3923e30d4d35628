import pytest

from tests.recipes.test_sample_and_evaluate import evaluate_config
from tests.small import ANIMALS, PLACES, ppo_config, write_rows
from tutelage.recipes import evaluate_measures, ppo_setup
from tutelage.text.split import split_of
from tutelage.text.tokenizer import open_tokenizer

SPLIT = {"split_by": "opening", "eval_frac": 0.5}
TEXTS = [f"once the {animal} sat {ending} in the {place}" for animal in ANIMALS for place in PLACES for ending in ("down", "still")]


@pytest.fixture
def file(tmp_path):
    return str(write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS]))


def of_side(side):
    """The texts whose first four words, taken as a prompt of their own, lie on this side."""
    return [text for text in TEXTS if split_of(" ".join(text.split()[:4]), eval_frac=0.5, seed=0) == side]


def read_by(module, monkeypatch):
    read, encode = [], module.encode_texts
    monkeypatch.setattr(module, "encode_texts", lambda tokenizer, texts: read.extend(texts) or encode(tokenizer, texts))
    return read


def test_bits_per_byte_are_of_the_texts_that_pretraining_held_out_by_their_opening(small, tmp_path, monkeypatch, file):
    read = read_by(evaluate_measures, monkeypatch)
    evaluate_measures.bits_per_byte(evaluate_config(small, tmp_path / "run", {"data": SPLIT, "text_files": [file]}), small.sft)
    assert read == of_side("eval") and 0 < len(read) < len(TEXTS)


def test_texts_held_out_by_their_opening_are_not_mixed_into_ppo(small, tmp_path, monkeypatch, file):
    read = read_by(ppo_setup, monkeypatch)
    ptx = {"files": [file], "coef": 1.0, "context_tokens": 32, "eval_frac": 0.5}
    cfg = ppo_config(small, tmp_path / "run", {"data": SPLIT, "ptx": ptx})
    ppo_setup.pack_pretraining(cfg, open_tokenizer(small.sft))
    assert read == of_side("train") and 0 < len(read) < len(TEXTS)
