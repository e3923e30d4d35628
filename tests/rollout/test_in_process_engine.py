import copy
import random

import pytest
import torch
import transformers as hf
from scipy import stats

from tests.models.tiny import CONFIGS, CONTEXT, MORE_CONFIGS, PAD, VOCAB, lone_logprobs, random_rows, tiny
from tutelage.base.errors import ArtifactError, DataError
from tutelage.models.policy import token_logprobs
from tutelage.rollout import InProcessEngine, Rollout, Sampling
from tutelage.rollout.cache import CachedDecoder, RereadingDecoder, open_decoder

PROMPTS = random_rows([3, 17, 9, 1, 12]) * 2 + random_rows([6, 17], seed=1)     # unequal lengths, some twice
STOPS = (5, 9, 20, 33)


def generate(model, prompts=PROMPTS, max_batch=64, row_ids=None, **settings):
    settings = {"max_tokens": 14, "stop_tokens": STOPS} | settings
    return InProcessEngine(model, PAD, max_batch=max_batch).generate(prompts, Sampling(**settings), row_ids=row_ids)


def texts(completions):
    return [c.tokens for c in completions]


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6}, {"top_k": 5, "top_p": 0.9}, {"temperature": 0.0}], ids=str)
@pytest.mark.parametrize("name", [*CONFIGS, *MORE_CONFIGS])
def test_logprobs_are_those_of_a_training_forward(name, settings):
    model = tiny(name)
    completions = generate(model, **settings)
    temperature = settings.get("temperature") or 1.0
    rollout = Rollout.collate(PROMPTS, completions, PAD)
    training = token_logprobs(model, rollout.tokens, rollout.attention_mask, temperature=temperature)
    torch.testing.assert_close(rollout.logprobs, training.where(rollout.response_mask, torch.tensor(0.0)), rtol=0, atol=5e-5)
    for prompt, completion in zip(PROMPTS, completions, strict=True):         # and of each row alone, unpadded, without a cache
        alone = lone_logprobs(model, [*prompt, *completion.tokens], temperature)[len(prompt):]
        torch.testing.assert_close(torch.tensor(completion.logprobs).double(), alone, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", [*CONFIGS, *MORE_CONFIGS])
def test_completions_do_not_depend_on_batch_size_or_row_order(name):
    model = tiny(name)
    expected = texts(generate(model))
    order = list(range(len(PROMPTS)))
    random.Random(0).shuffle(order)
    shuffled = [PROMPTS[i] for i in order]
    for max_batch in (1, 3, 64):
        assert texts(generate(model, max_batch=max_batch)) == expected
        assert texts(generate(model, shuffled, max_batch=max_batch, row_ids=order)) == [expected[i] for i in order]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_equal_those_of_transformers_generate(name):
    model = tiny(name)
    for prompt, completion in zip(PROMPTS, generate(model, temperature=0.0), strict=True):
        peer = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=14,
                              do_sample=False, eos_token_id=list(STOPS), pad_token_id=PAD)
        assert list(completion.tokens) == peer[0, len(prompt):].tolist()


def test_the_first_token_follows_the_models_distribution():
    model, prompt, n = tiny("llama"), PROMPTS[2], 6000
    first = torch.tensor([c.tokens[0] for c in generate(model, [prompt] * n, max_batch=1024, max_tokens=1)])
    p = model(input_ids=torch.tensor([prompt])).logits[0, -1].double().softmax(0).detach()
    counts, rare = torch.bincount(first, minlength=VOCAB).double(), p * n < 5
    observed, expected = ([*x[~rare].tolist(), x[rare].sum().item()] for x in (counts, p * n))
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_answers_to_one_prompt_differ_and_repeat_with_the_seed():
    model = tiny("llama")
    answers = texts(generate(model, [PROMPTS[1]] * 8, temperature=3.0))
    assert len(set(answers)) == 8
    assert texts(generate(model, [PROMPTS[1]] * 8, temperature=3.0)) == answers
    assert texts(generate(model, [PROMPTS[1]] * 8, temperature=3.0, row_ids=range(100, 108))) != answers
    assert texts(generate(model, [PROMPTS[1]] * 8, temperature=3.0, seed=1)) != answers


def test_equal_prompts_are_read_once_and_finished_rows_leave(monkeypatch):
    rows = []
    original = CachedDecoder._forward

    def record(self, tokens, positions):
        rows.append(tokens.shape)
        return original(self, tokens, positions)

    monkeypatch.setattr(CachedDecoder, "_forward", record)
    completions = generate(tiny("llama"), [PROMPTS[1]] * 30 + [PROMPTS[2]] * 34)
    assert rows[0] == (2, 17)
    lengths = [len(c.tokens) for c in completions]
    for step, (batch, _) in enumerate(rows[1:], start=1):
        running = sum(n > step for n in lengths)
        assert running <= batch and batch - running < batch / 8 + 1
    assert rows[-1][0] < 64


def test_a_response_ends_with_its_stop_token_or_at_a_limit():
    completions = generate(tiny("llama"), PROMPTS * 8, max_batch=128)
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for completion in completions:
        assert not set(completion.tokens[:-1]) & set(STOPS)
        assert (completion.tokens[-1] in STOPS) == (completion.finish_reason == "stop")
        assert completion.finish_reason == "stop" or len(completion.tokens) == 14
        assert len(completion.tokens) == len(completion.logprobs)


def test_a_full_context_ends_each_row_at_its_own_length():
    prompts = random_rows([CONTEXT - 1, CONTEXT - 5, 10])
    completions = generate(tiny("gpt2"), prompts, stop_tokens=(), max_tokens=20)
    assert [len(c.tokens) for c in completions] == [1, 5, 20]
    assert {c.finish_reason for c in completions} == {"length"}


def test_a_model_without_a_bound_on_positions_has_no_limit():
    assert len(generate(tiny("bloom, positions from the mask"), random_rows([40]), stop_tokens=(), max_tokens=30)[0].tokens) == 30


def test_prompts_without_room_or_tokens_are_refused():
    with pytest.raises(DataError, match=f"prompt 1 has {CONTEXT} tokens; the model's context of {CONTEXT}"):
        generate(tiny("llama"), random_rows([3, CONTEXT]))
    with pytest.raises(DataError, match="prompt 0 has no tokens"):
        generate(tiny("llama"), [[]])
    with pytest.raises(ValueError, match="1 row ids for 2 prompts"):
        generate(tiny("llama"), PROMPTS[:2], row_ids=[0])
    assert generate(tiny("llama"), []) == []


def test_decoding_ignores_dropout_and_leaves_the_training_mode_as_it_was():
    model = tiny("gpt2")
    expected = generate(model)
    assert generate(model.train()) == expected
    assert model.training


def test_training_goes_on_after_generating():
    # Buffers that a model refreshes while decoding (long-context rotary angles) must stay usable in autograd.
    config = CONFIGS["llama"]()
    config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    config.max_position_embeddings = 16
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    completions = generate(model, random_rows([6, 3]), max_tokens=9)
    rollout = Rollout.collate(random_rows([6, 3]), completions, PAD)
    token_logprobs(model, rollout.tokens, rollout.attention_mask).sum().backward()


def test_stale_weights_show_in_the_version_and_fresh_ones_in_the_logprobs():
    policy = tiny("llama")
    engine, sampling = InProcessEngine(copy.deepcopy(policy), PAD), Sampling(max_tokens=6)
    with torch.no_grad():
        policy.get_output_embeddings().weight.mul_(1.5)             # training went on

    def largest_gap(completions):
        rollout = Rollout.collate(PROMPTS, completions, PAD)
        gap = token_logprobs(policy, rollout.tokens, rollout.attention_mask) - rollout.logprobs
        return gap[rollout.response_mask].abs().max().item()

    stale = engine.generate(PROMPTS, sampling)
    assert {c.weight_version for c in stale} == {0} and largest_gap(stale) > 0.1
    for version, weights in ((1, policy), (2, policy.state_dict())):
        engine.sync(weights, version)
        fresh = engine.generate(PROMPTS, sampling)
        assert {c.weight_version for c in fresh} == {version} and largest_gap(fresh) < 5e-5


def test_an_engine_on_the_trained_model_itself_follows_it():
    policy = tiny("llama")
    engine = InProcessEngine(policy, PAD)
    with torch.no_grad():
        policy.get_output_embeddings().weight.mul_(1.5)
    engine.sync(policy, 4)
    expected = generate(policy, max_tokens=6)
    assert texts(engine.generate(PROMPTS, Sampling(max_tokens=6, stop_tokens=STOPS))) == texts(expected)
    assert engine.weight_version == 4


def test_weights_of_another_model_are_refused():
    with pytest.raises(ArtifactError, match="do not fit"):
        InProcessEngine(tiny("llama"), PAD).sync(tiny("gpt2"), 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_stream_is_the_completion_token_by_token(temperature):
    engine = InProcessEngine(tiny("llama"), PAD)
    sampling = Sampling(temperature=temperature, max_tokens=14, stop_tokens=STOPS)
    for row, prompt in enumerate(PROMPTS):
        assert tuple(engine.stream(prompt, sampling, row_id=row)) == engine.generate([prompt], sampling, row_ids=[row])[0].tokens
    stream = engine.stream(PROMPTS[1], sampling)
    next(stream)
    assert torch.is_grad_enabled()                                  # nothing leaks to the caller between tokens
    stream.close()


def test_each_architecture_gets_the_decoder_that_is_exact_for_it():
    kinds = {name: type(open_decoder(tiny(name), PAD, 20)) for name in (*CONFIGS, *MORE_CONFIGS)}
    reread = {name for name, kind in kinds.items() if kind is RereadingDecoder}
    assert reread == {"mamba, no key/value cache", "gpt1, no cache at all"}


@pytest.mark.parametrize("name", ["gpt2", "opt, learned positions", "gpt1, no cache at all"])
def test_a_row_with_a_full_context_leaves_at_once_however_few_others_have_ended(name):
    # One row of 21 is no reason to copy the cache, but a model of learned positions has none to go on to.
    prompts, settings = random_rows([CONTEXT - 2] + [3] * 20), {"stop_tokens": (), "max_tokens": CONTEXT}
    completions = generate(tiny(name), prompts, **settings)
    assert [len(c.tokens) for c in completions] == [2] + [CONTEXT - 3] * 20
    assert texts(completions[1:2]) == texts(generate(tiny(name), prompts[1:2], row_ids=[1], **settings))
