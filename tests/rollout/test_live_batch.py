import random

import pytest
import torch

from tests.models.tiny import CONFIGS, CONTEXT, MORE_CONFIGS, PAD, random_rows, tiny
from tutelage.base.errors import DataError
from tutelage.rollout import Ask, InProcessEngine, LiveBatch, Sampling, cache
from tutelage.rollout.cache import CachedDecoder

STOPS = (5, 9, 20, 33)
KINDS = [{}, {"temperature": 0.6}, {"top_k": 5, "top_p": 0.9}, {"temperature": 0.0}, {"seed": 3, "max_tokens": 2}, {"stop_tokens": ()},
         {"top_p": 0.5}]


def asks(prompts):
    """Each prompt with a sampling and a row id of its own."""
    return [Ask(tuple(p), Sampling(**({"max_tokens": 14, "stop_tokens": STOPS} | KINDS[i % len(KINDS)])), 7 * i)
            for i, p in enumerate(prompts)]


def alone(model, ask):
    return InProcessEngine(model, PAD).generate([ask.prompt], ask.sampling, row_ids=[ask.row_id])[0]


def turn(batch, found):
    """One token of every row, collected by key."""
    drawn = batch.draw()
    for key, token, logprob, finish in drawn:
        found.setdefault(key, []).append((token, logprob, finish))
    batch.advance()
    return drawn


def check(model, ask, rows):
    tokens, logprobs, finishes = zip(*rows, strict=True)
    expected = alone(model, ask)
    assert tokens == expected.tokens and finishes[-1] == expected.finish_reason and not any(finishes[:-1])
    torch.testing.assert_close(torch.tensor(logprobs), torch.tensor(expected.logprobs), rtol=0, atol=5e-5)


@pytest.mark.parametrize("room", [0, 64])
@pytest.mark.parametrize("name", [*CONFIGS, *MORE_CONFIGS])
def test_a_row_answers_as_alone_whenever_it_joins_and_whoever_else_is_there(name, room, monkeypatch):
    monkeypatch.setattr(cache, "ROOM", max(room, 1))
    monkeypatch.setattr("tutelage.rollout.live.ROOM", room)         # decoders that must grow at each step, or never
    model, found, wanted = tiny(name), {}, {}
    waiting = asks(random_rows([3, 17, 9, 1, 12, 30, 2, 6, 5, 11], seed=1) + random_rows([3, 3, 8, 17], seed=1))
    batch, chance = LiveBatch(InProcessEngine(model, PAD)), random.Random(0)
    while waiting or len(batch):
        if waiting and (not len(batch) or chance.random() < 0.4):
            some = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 4)))]
            wanted |= dict(zip(batch.add(some), some, strict=True))
        turn(batch, found)
    assert len(found) == 14
    for key, ask in wanted.items():
        check(model, ask, found[key])


@pytest.mark.parametrize("name", ["llama", "mistral, sliding window", "gpt1, no cache at all"])
def test_rows_that_are_dropped_say_no_more_and_change_no_other(name):
    model, found = tiny(name), {}
    batch = LiveBatch(InProcessEngine(model, PAD))
    rows = [ask._replace(sampling=Sampling(max_tokens=9)) for ask in asks(random_rows([3, 20, 9, 1]))]
    keys = batch.add(rows)
    turn(batch, found)
    batch.drop(keys[1:2])                                           # before a draw
    before = batch.draw()
    batch.drop(keys[2:3])                                           # after one
    batch.advance()
    assert [d.key for d in before] == [keys[0], keys[2], keys[3]] and len(batch) == 2
    for d in before:
        found[d.key].append((d.token, d.logprob, d.finish))
    while len(batch):
        turn(batch, found)
    assert [len(found[key]) for key in keys] == [9, 1, 2, 9]
    check(model, rows[0], found[keys[0]])
    check(model, rows[3], found[keys[3]])
    batch.drop(keys)                                                # gone already: no harm
    assert batch.draw() == [] and len(batch) == 0


def test_a_batch_that_never_empties_stays_as_narrow_as_its_rows(monkeypatch):
    widths = []
    original = CachedDecoder._forward

    def record(self, tokens, positions):
        widths.append((self.length, self.capacity))
        return original(self, tokens, positions)

    monkeypatch.setattr(CachedDecoder, "_forward", record)
    monkeypatch.setattr(cache, "ROOM", 4)
    batch = LiveBatch(InProcessEngine(tiny("llama"), PAD))
    sampling = Sampling(max_tokens=10)
    for number in range(60):                                        # always two rows: one comes as another goes
        if number % 5 == 0:
            batch.add([Ask(tuple(random_rows([6], seed=number)[0]), sampling, number)])
        turn(batch, {})
        assert 1 <= len(batch) <= 2
    assert max(length for length, _ in widths) <= 6 + 10 + 4 and max(capacity for _, capacity in widths) <= 6 + 10 + 2 * 4


def test_a_prompt_without_room_is_refused_and_the_others_go_on():
    model, found = tiny("llama"), {}
    batch = LiveBatch(InProcessEngine(model, PAD))
    (ask,) = asks(random_rows([5]))
    (key,) = batch.add([ask])
    with pytest.raises(DataError, match=f"prompt 1 has {CONTEXT} tokens"):
        batch.add(asks(random_rows([3, CONTEXT])))
    while len(batch):
        turn(batch, found)
    check(model, ask, found[key])


def test_equal_prompts_are_read_once(monkeypatch):
    rows = []
    original = CachedDecoder._forward
    monkeypatch.setattr(CachedDecoder, "_forward", lambda self, tokens, p: rows.append(len(tokens)) or original(self, tokens, p))
    batch = LiveBatch(InProcessEngine(tiny("llama"), PAD))
    prompt = tuple(random_rows([9])[0])
    batch.add([Ask(prompt, Sampling(), row_id) for row_id in range(5)])
    turn(batch, {})
    assert rows == [1, 5]
