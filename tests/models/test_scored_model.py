import json

import pytest
import torch
import transformers as hf

from tests.models.tiny import CONFIGS, VOCAB, random_rows, right_padded, tiny, word_tokenizer
from tutelage.base.errors import ArtifactError
from tutelage.models.adapters import open_adapted_policy
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, save_policy

ROWS = random_rows([5, 19, 1, 11])


@pytest.fixture
def policy_folder(tmp_path):
    def save(name="llama"):
        save_policy(tiny(name), word_tokenizer(), tmp_path / "policy")
        return tmp_path / "policy"
    return save


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_reward_model_scores_alike_in_plain_transformers_up_to_its_shift(name, policy_folder, tmp_path):
    model = ScoredModel.from_policy(policy_folder(name), seed=0).rescale_(2.5, -0.75)
    model.save(tmp_path / "rm", word_tokenizer())
    tokens, mask = right_padded(ROWS)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", dtype=torch.float32)
    assert plain.config.score_shift == -0.75
    plain_score = plain(input_ids=tokens, attention_mask=mask.long()).logits[:, 0]
    torch.testing.assert_close(model.score(tokens, mask), plain_score - 0.75, rtol=0, atol=1e-5)
    reopened = ScoredModel.open(tmp_path / "rm")
    assert torch.equal(reopened.score(tokens, mask), model.score(tokens, mask))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_backbone_weight_comes_from_the_policy(name, policy_folder):
    policy, model = tiny(name), ScoredModel.from_policy(policy_folder(name), seed=0)
    copied = model.model.base_model.state_dict()
    assert copied.keys() == policy.base_model.state_dict().keys()
    assert all(torch.equal(copied[key], value) for key, value in policy.base_model.state_dict().items())


def test_the_head_starts_as_in_the_paper_and_by_its_seed(tmp_path):
    # N(0, 1/sqrt(d + 1)): over d = 2,048 draws the sample deviation lies within 5 / sqrt(2 d) = 8% of it.
    config = CONFIGS["llama"]()
    config.hidden_size = 2048
    torch.manual_seed(0)
    save_policy(hf.AutoModelForCausalLM.from_config(config), word_tokenizer(), tmp_path)
    first, again, other = (ScoredModel.from_policy(tmp_path, seed=s).head.weight for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.std().item() == pytest.approx(2049 ** -0.5, rel=0.08)


def test_a_reward_model_grows_with_its_tokenizer_and_then_pads_like_plain_transformers(policy_folder, tmp_path):
    folder, tokenizer = policy_folder("gpt2"), word_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    model = ScoredModel.from_policy(folder, seed=0, tokenizer=tokenizer)
    tokens, mask = right_padded(ROWS, pad=VOCAB)                    # the new token's id
    expected = ScoredModel.from_policy(folder, seed=0).score(*right_padded(ROWS))
    torch.testing.assert_close(model.score(tokens, mask), expected, rtol=0, atol=1e-5)
    model.save(tmp_path / "rm", tokenizer)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm", dtype=torch.float32)
    torch.testing.assert_close(plain(input_ids=tokens, attention_mask=mask.long()).logits[:, 0], expected, rtol=0, atol=1e-5)


def test_the_score_is_read_at_the_last_real_token(policy_folder):
    model = ScoredModel.from_policy(policy_folder(), seed=0)
    tokens, mask = right_padded(ROWS)
    padded_differently, _ = right_padded(ROWS, pad=9)
    alone = torch.stack([model.model(input_ids=torch.tensor([row])).logits[0, 0] for row in ROWS])
    torch.testing.assert_close(model.score(tokens, mask), alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.score(padded_differently, mask), alone, rtol=0, atol=1e-5)


def test_token_scores_are_scores_of_prefixes_and_values_come_one_token_later(policy_folder):
    model, row = ScoredModel.from_policy(policy_folder(), seed=0).rescale_(1.0, 0.5), ROWS[3]
    tokens, mask = right_padded(ROWS)
    prefixes = torch.stack([model.model(input_ids=torch.tensor([row[:t + 1]])).logits[0, 0] for t in range(len(row))]) + 0.5
    torch.testing.assert_close(model.token_scores(tokens, mask)[3, :len(row)], prefixes, rtol=0, atol=1e-5)
    values = model.values(tokens, mask)
    torch.testing.assert_close(values[3, 1:len(row)], prefixes[:-1], rtol=0, atol=1e-5)
    assert (values[:, 0] == 0).all() and (values[~mask] == 0).all() and (model.token_scores(tokens, mask)[~mask] == 0).all()


def test_rescaling_twice_composes_and_lands_in_the_head(policy_folder):
    model = ScoredModel.from_policy(policy_folder(), seed=0)
    tokens, mask = right_padded(ROWS)
    raw, weight = model.score(tokens, mask), model.head.weight.clone()
    model.rescale_(2.0, 1.0).rescale_(3.0, -0.5)
    torch.testing.assert_close(model.score(tokens, mask), 3 * (2 * raw + 1) - 0.5, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.head.weight, 6 * weight)
    with pytest.raises(ValueError, match="gain"):
        model.rescale_(-1.0, 0.0)


def test_a_state_dict_carries_head_and_shift(policy_folder):
    # The head that is not saved scores randomly after a reload; nothing else shows it.
    folder, (tokens, mask) = policy_folder(), right_padded(ROWS)
    trained = ScoredModel.from_policy(folder, seed=0).rescale_(3.0, 2.0)
    fresh = ScoredModel.from_policy(folder, seed=1)
    assert not torch.allclose(fresh.score(tokens, mask), trained.score(tokens, mask))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.score(tokens, mask), trained.score(tokens, mask))


def test_a_policy_is_not_taken_for_a_reward_model(policy_folder):
    with pytest.raises(ArtifactError, match="is no reward model: it writes text"):
        ScoredModel.open(policy_folder())


def test_a_reward_model_folder_that_lost_its_head_is_refused(policy_folder, tmp_path):
    from safetensors.torch import load_file, save_file
    ScoredModel.from_policy(policy_folder(), seed=0).save(tmp_path / "rm", word_tokenizer())
    weights = load_file(tmp_path / "rm" / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "rm" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="lacks 1 weights.*score.weight"):
        ScoredModel.open(tmp_path / "rm")


def test_a_classifier_of_two_labels_is_refused(tmp_path):
    config = CONFIGS["llama"]()
    config.num_labels = 2
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="2 labels"):
        ScoredModel.open(tmp_path)


@pytest.mark.parametrize("config", [hf.BertConfig, hf.ElectraConfig, hf.XLNetConfig], ids=lambda c: c.model_type)
def test_a_classifier_that_does_not_score_at_the_last_token_is_refused(config, tmp_path):
    # BERT's head is linear too, but reads a pooled first token: read at the last token it would give other scores than it was trained to.
    sizes = {"hidden_size": 32, "d_model": 32, "n_layer": 2, "n_head": 4, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 48, "d_inner": 48, "embedding_size": 32}
    hf.AutoModelForSequenceClassification.from_config(config(vocab_size=VOCAB, num_labels=1, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="does not score a text at its last token|linear heads of one output") as caught:
        ScoredModel.open(tmp_path)
    assert caught.value.hint


def test_an_architecture_without_a_classification_class_is_named_with_the_way_round(tmp_path):
    config = hf.MambaConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2)
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="AutoModelForSequenceClassification of transformers does not know .*mamba") as caught:
        ScoredModel.from_policy(tmp_path, seed=0)
    assert "another architecture" in caught.value.hint and "critic.kind=shared" in caught.value.hint


def test_a_foreign_reward_model_without_shift_opens(tmp_path):
    config = CONFIGS["gpt2"]()
    config.num_labels = 1
    torch.manual_seed(0)
    plain = hf.AutoModelForSequenceClassification.from_config(config).eval()
    plain.save_pretrained(tmp_path)
    assert "score_shift" not in json.loads((tmp_path / "config.json").read_text())
    tokens, mask = right_padded(ROWS)
    plain_score = plain(input_ids=tokens, attention_mask=mask.long()).logits[:, 0]
    torch.testing.assert_close(ScoredModel.open(tmp_path).score(tokens, mask), plain_score, rtol=0, atol=1e-5)


def test_a_score_trains_the_backbone_and_ignores_padding(policy_folder):
    model = ScoredModel.from_policy(policy_folder(), seed=0)
    tokens, mask = right_padded(ROWS)
    model.score(tokens, mask).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    used = set(tokens[mask].tolist())
    embedding = model.model.get_input_embeddings().weight.grad
    assert all((embedding[i] == 0).all() for i in range(len(embedding)) if i not in used)


def test_an_empty_row_and_left_padding_are_refused(policy_folder):
    model = ScoredModel.from_policy(policy_folder(), seed=0)
    tokens, mask = right_padded(ROWS)
    with pytest.raises(ValueError, match="without tokens"):
        model.score(tokens, mask & torch.tensor([[True], [True], [False], [True]]))
    with pytest.raises(ValueError, match="right-padded"):
        model.score(tokens.flip(1), mask.flip(1))


@pytest.mark.parametrize("tied", [True, False])
def test_a_reward_model_is_no_policy_though_tied_embeddings_would_make_it_one(tmp_path, tied):
    config = CONFIGS["llama"]()
    config.num_labels, config.tie_word_embeddings = 1, tied
    hf.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    for open_it in (open_policy, lambda path: open_adapted_policy(path, tokenizer=word_tokenizer(), rank=2, alpha=4.0, targets=[])):
        with pytest.raises(ArtifactError, match="is a reward model: it scores answers, it does not write any"):
            open_it(tmp_path)
