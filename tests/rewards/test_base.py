import pytest
import torch

from tutelage.base.errors import AuditError, DataError
from tutelage.base.records import Completion, Message
from tutelage.models.heads import ScoredModel
from tutelage.rewards.base import FunctionReward, ModelReward, check_scores, last_user_text
from tutelage.rollout.batch import Rollout
from tutelage.text.chat import encode_example, encode_prompt
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer

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


def test_a_reward_model_with_another_tokenizer_reads_the_text_again(small, tokenizer, rollout, tmp_path):
    other = open_tokenizer(train_tokenizer(["where is cat", "in the barn pond"], vocab_size=300, out_dir=tmp_path))
    model = ScoredModel.open(small.reward)
    scores = ModelReward(model, other, tokenizer)(PROMPTS, rollout)
    for row, (prompt, text) in enumerate(zip(PROMPTS, ("in the barn", "in the pond with cat", "in the"), strict=True)):
        tokens = torch.tensor([encode_example(other, prompt, text).tokens])
        with torch.no_grad():
            assert scores[row].item() == pytest.approx(model.score(tokens, torch.ones_like(tokens)).item(), abs=1e-5)


def test_a_text_too_long_for_the_reward_model_is_named(small, tokenizer):
    with pytest.raises(DataError, match="prompt . answer has .* tokens, the reward model reads 48: 'user: where is cat"):
        ModelReward(ScoredModel.open(small.reward), tokenizer, tokenizer).score_texts(PROMPTS[:1], ["cat " * 60])


def test_a_function_sees_the_last_question_and_the_answer_as_a_person_does(tokenizer, rollout):
    seen = []
    reward = FunctionReward(lambda prompts, texts: seen.append((prompts, texts)) or [1, 2.5, 0], tokenizer)
    assert reward(PROMPTS, rollout).tolist() == [1.0, 2.5, 0.0]
    assert seen == [(["where is cat?", "where is owl 3?", "where is dog?"], ["in the barn", "in the pond with cat", "in the"])]


@pytest.mark.parametrize(("scores", "says"), [
    ([1.0, float("nan"), 2.0], "reward is nan for 1 of 3 answers, first 'in the pond with cat' to 'user: where is owl"),
    ([float("-inf")] * 3, "reward is -inf for 3 of 3 answers"), ([1.0], "1 scores for 3 answers")])
def test_a_function_that_returns_no_number_per_answer_is_refused(tokenizer, rollout, scores, says):
    with pytest.raises(AuditError, match=says):
        FunctionReward(lambda prompts, texts: scores, tokenizer)(PROMPTS, rollout)


def test_scores_of_another_shape_are_refused(tokenizer, rollout):
    with pytest.raises(AuditError, match=r"shape \(3, 1\) for 3 answers"):
        check_scores(torch.zeros(3, 1), PROMPTS, rollout, tokenizer)


def test_the_last_user_text_is_what_was_asked():
    talk = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "where?"), Message("assistant", "so"))
    assert (last_user_text(talk), last_user_text("raw"), last_user_text((Message("system", "s"),))) == ("where?", "raw", "")
