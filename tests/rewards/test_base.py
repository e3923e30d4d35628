import pytest
import torch

from tests.rewards.conftest import PROMPTS
from tutelage.base.errors import AuditError, DataError
from tutelage.base.records import Message
from tutelage.models.heads import ScoredModel
from tutelage.rewards.base import ModelReward, check_scores, last_user_text
from tutelage.text.chat import encode_example
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer


def test_a_reward_model_reads_the_policys_own_tokens(small, tokenizer, rollout):
    model = ScoredModel.open(small.reward)
    scores = ModelReward(model, open_tokenizer(small.reward), tokenizer)(PROMPTS, rollout)
    with torch.no_grad():
        for row, (prompt, done) in enumerate(zip(rollout.prompt_tokens, rollout.completions, strict=True)):
            alone = torch.tensor([[*prompt, *done.tokens]])
            assert scores[row].item() == pytest.approx(model.score(alone, torch.ones_like(alone)).item(), abs=1e-5)


def test_the_micro_batch_does_not_change_scores(small, tokenizer, rollout):
    one, all_at_once = (ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer, microbatch=n)(PROMPTS, rollout) for n in (1, 128))
    torch.testing.assert_close(one, all_at_once, rtol=0, atol=1e-5)


def test_answers_given_as_text_score_as_their_tokens_do(small, tokenizer, rollout):
    reward = ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer)
    as_text = reward.score_texts(PROMPTS[:2], rollout.texts(tokenizer)[:2])
    torch.testing.assert_close(as_text, reward(PROMPTS, rollout)[:2], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A tokenizer of other merges, so the same text has other ids."""
    return open_tokenizer(train_tokenizer(["where is cat", "in the barn pond"], vocab_size=300, out_dir=tmp_path_factory.mktemp("other")))


def plain_score(model, tokens) -> float:
    """By the plain transformers model, alone and unpadded."""
    with torch.no_grad():
        return (model.model(input_ids=torch.tensor([tokens])).logits[0, 0] + model.score_shift).item()


def test_a_reward_model_with_another_tokenizer_reads_the_text_again_and_gives_no_end_to_an_answer_cut_off(small, tokenizer, rollout, other):
    model = ScoredModel.open(small.reward)
    scores = ModelReward(model, other, tokenizer)(PROMPTS, rollout)
    for row, (prompt, text) in enumerate(zip(PROMPTS, ("in the barn", "in the pond with cat", "in the"), strict=True)):
        tokens = encode_example(other, prompt, text).tokens
        assert tokens[-1] == other.eos_token_id and tokens != list(rollout.prompt_tokens[row] + rollout.completions[row].tokens)
        assert scores[row].item() == pytest.approx(plain_score(model, tokens if row < 2 else tokens[:-1]), abs=1e-5)


def test_one_vocabulary_with_another_chat_template_is_read_again(small, tokenizer, rollout):
    model, same_words = ScoredModel.open(small.reward), open_tokenizer(small.reward)
    assert ModelReward(model, same_words, tokenizer).reads_policy_tokens
    same_words.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    reward = ModelReward(model, same_words, tokenizer)
    expected = same_words("where is cat?<|eos|>in the barn<|eos|>", add_special_tokens=False)["input_ids"]
    assert not reward.reads_policy_tokens and reward(PROMPTS, rollout)[0].item() == pytest.approx(plain_score(model, expected), abs=1e-5)


def test_a_rollout_longer_than_the_reward_models_context_is_judged_by_its_beginning(small, tokenizer, rollout, other):
    model = ScoredModel.open(small.reward)
    reward = ModelReward(model, other, tokenizer)
    reward.limit = 9
    tokens = encode_example(other, PROMPTS[1], "in the pond with cat").tokens
    assert len(tokens) > 9 and reward(PROMPTS, rollout)[1].item() == pytest.approx(plain_score(model, tokens[:9]), abs=1e-5)


def test_a_text_too_long_for_the_reward_model_is_named(small, tokenizer):
    with pytest.raises(DataError, match="prompt . answer has .* tokens, the reward model reads 48: 'user: where is cat"):
        ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer).score_texts(PROMPTS[:1], ["cat " * 60])


def test_scores_of_another_shape_are_refused(tokenizer, rollout):
    with pytest.raises(AuditError, match=r"shape \(3, 1\) for 3 answers"):
        check_scores(torch.zeros(3, 1), PROMPTS, rollout, tokenizer)


def test_the_last_user_text_is_what_was_asked():
    talk = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "where?"), Message("assistant", "so"))
    assert (last_user_text(talk), last_user_text("raw"), last_user_text((Message("system", "s"),))) == ("where?", "raw", "")
