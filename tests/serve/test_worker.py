"""The thread that owns the models: order, failures, and what it does for whom."""

from __future__ import annotations

import functools
import queue
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.serve.conftest import Alone
from tutelage.base.errors import AuditError, DataError
from tutelage.base.records import Message
from tutelage.rollout import Sampling
from tutelage.serve.errors import Refusal
from tutelage.serve.metrics import Metrics
from tutelage.serve.served import Identity, Speaker
from tutelage.serve.worker import Job, ScoreJob, Worker

PROMPT = (Message("user", "where is cat 3?"),)


@dataclass
class Case:
    """A worker that has not begun, and what it delivers: (name of the job, event)."""

    speaker: Speaker
    worker: Worker
    delivered: queue.Queue[tuple[str, Any]] = field(default_factory=queue.Queue)

    def ask(self, name: str, n: int = 1, **settings: Any) -> Job:
        sampling = Sampling(**({"max_tokens": 6, "stop_tokens": self.speaker.stop_tokens, "seed": 1} | settings))
        job = Job(self.speaker, self.speaker.encode(PROMPT), sampling, n, (), lambda event: self.delivered.put((name, event)))
        self.worker.submit(job)
        return job

    def finished(self, count: int) -> list[str]:
        """The names of the next jobs' answers in the order they end."""
        names = []
        while len(names) < count:
            name, event = self.delivered.get(timeout=30)
            if isinstance(event, Refusal) or event.finish:
                names.append(name)
        return names


@pytest.fixture
def case(alone: Alone):
    speaker = Speaker(Identity("sft", "policy", "0" * 64, "model"), alone.engine, alone.tokenizer)
    worker = Worker([speaker], Metrics(), max_rows=8, max_waiting=4)
    yield Case(speaker, worker)
    if worker.alive:
        worker.stop()


def test_requests_begin_in_the_order_they_came_and_none_overtakes(case: Case):
    for name, n in (("first", 6), ("large", 8), ("small", 1)):      # the small one would fit beside the first, before the large
        case.ask(name, n)
    case.worker.start()
    assert case.finished(15) == ["first"] * 6 + ["large"] * 8 + ["small"]


def test_a_model_that_fails_fails_those_in_it_and_goes_on(case: Case, monkeypatch, caplog):
    model = case.speaker.engine.model
    real, sound = model.forward, case.ask("sound")
    case.worker.start()
    case.finished(1)

    @functools.wraps(real)                                          # its signature says that the model has a cache
    def broken(*arguments: Any, **options: Any) -> Any:
        if options["input_ids"].shape[1] > 1:                       # the prompt is read, the first token is not
            return real(*arguments, **options)
        raise RuntimeError("not enough memory: you tried to allocate everything")

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", broken)
        for name in ("one", "two"):
            case.ask(name, n=2)
            refusals = [event for _, event in (case.delivered.get(timeout=30) for _ in range(3)) if isinstance(event, Refusal)]
            assert [(r.status, r.code) for r in refusals] == [(500, "failed")]
    assert "not enough memory" in caplog.text
    again = case.ask("again")
    case.finished(1)
    assert again.answers[0].text == sound.answers[0].text


def test_who_waits_and_hangs_up_never_begins(case: Case):
    case.ask("first")
    gone = case.ask("gone")
    case.worker.cancel(gone)
    case.ask("third")
    case.worker.start()
    assert case.finished(2) == ["first", "third"] and gone.answers[0].tokens == []


@dataclass
class FakeJudge:
    """Scores, or raises."""

    result: Any
    identity: Identity = Identity("judge", "reward", "0" * 64, "model")

    def scores(self, prompt: Any, responses: Any) -> list[float]:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(("result", "status"), [([1.0], None), (DataError("too long", hint="shorten"), 400), (AuditError("nan"), 500)])
def test_scores_and_their_failures_reach_who_asked(case: Case, result, status):
    answers: queue.Queue[Any] = queue.Queue()
    case.worker.submit(ScoreJob(FakeJudge(result), PROMPT, ["a"], answers.put))     # type: ignore[arg-type]
    case.worker.start()
    found = answers.get(timeout=30)
    assert (found.status if status else found) == (status or [1.0])
    case.ask("after")
    assert case.finished(1) == ["after"]


def test_a_full_queue_and_a_stopping_worker_say_so(case: Case):
    for i in range(4):
        case.ask(str(i))
    with pytest.raises(Refusal) as full:
        case.ask("one too many")
    assert (full.value.status, full.value.headers) == (429, {"Retry-After": "1"})
    case.worker.drain()
    assert [case.delivered.get(timeout=1)[1].status for _ in range(4)] == [503] * 4
    with pytest.raises(Refusal) as stopped:
        case.ask("late")
    assert stopped.value.status == 503
