"""The one thread that owns the models: it takes requests in turn and moves all their answers on together, a token at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import FinishReason, Prompt
from tutelage.rollout import Ask, Drawn, LiveBatch, Sampling

from .answers import Answer
from .errors import Refusal, busy, refuse, stopping
from .metrics import Metrics
from .served import Judge, Speaker

log = get_logger("serve")


class Piece(NamedTuple):
    """Text that joins an answer of the request, counted from 0; finish is None while it goes on."""

    answer: int
    text: str
    finish: FinishReason | None


class Job:
    """A request's n answers to one prompt. `deliver` is called in the worker's thread with each piece, or with what went wrong."""

    def __init__(self, speaker: Speaker, prompt: Sequence[int], sampling: Sampling, n: int, stops: Sequence[str],
                 deliver: Callable[[Piece | Refusal], object]) -> None:
        self.speaker, self.deliver, self.cancelled = speaker, deliver, False
        self.asks = [Ask(tuple(prompt), sampling, row_id) for row_id in range(n)]
        self.answers = [Answer(speaker.tokenizer, stops, sampling.stop_tokens) for _ in range(n)]
        self.arrived = time.perf_counter()


class ScoreJob:
    """A request's responses to score. `deliver` is called in the worker's thread with the scores, or with what went wrong."""

    def __init__(self, judge: Judge, prompt: Prompt, responses: Sequence[str], deliver: Callable[[list[float] | Refusal], object]) -> None:
        self.judge, self.prompt, self.responses, self.deliver, self.cancelled = judge, prompt, responses, deliver, False


class Worker:
    """Starts jobs in the order they came, as soon as their model has room for their rows."""

    def __init__(self, speakers: Iterable[Speaker], metrics: Metrics, *, max_rows: int, max_waiting: int) -> None:
        self.metrics, self.max_waiting = metrics, max_waiting
        self._lanes = {speaker.identity.name: _Lane(speaker, metrics, max_rows) for speaker in speakers}
        self._waiting: deque[Job | ScoreJob] = deque()
        self._wake = threading.Condition()
        self._draining = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._thread.is_alive() and not self._draining

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, job: Job | ScoreJob) -> None:
        """Put a job in the queue. Raises: Refusal when too many wait, or the server is stopping."""
        with self._wake:
            if self._draining:
                raise stopping()
            if len(self._waiting) >= self.max_waiting:
                raise busy(len(self._waiting))
            self._waiting.append(job)
            self._count_waiting()
            self._wake.notify()

    def cancel(self, job: Job | ScoreJob) -> None:
        """Nobody waits for it any more: it leaves the queue now, or the batch before its next token."""
        job.cancelled = True
        with self._wake:
            if job in self._waiting:
                self._waiting.remove(job)
                self._count_waiting()

    def drain(self) -> None:
        """Take nothing new, refuse what waits, go on with what has begun."""
        with self._wake:
            self._draining = True
            for job in self._waiting:
                job.deliver(stopping())
            self._waiting.clear()
            self._count_waiting()

    def stop(self) -> None:
        """End the thread, at the latest after the token it is at."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._waiting or any(lane.rows for lane in self._lanes.values()))
                if self._stopped:
                    return
                jobs, scores = self._next()
            for lane in self._lanes.values():
                lane.turn([job for job in jobs if job.speaker is lane.speaker])
            if scores is not None:
                self._score(scores)

    def _next(self) -> tuple[list[Job], ScoreJob | None]:
        """The jobs that start now: of each model those at the front that have room, and one for scores, so that answers go on between."""
        jobs: list[Job] = []
        scores: ScoreJob | None = None
        room = {name: lane.max_rows - len(lane.rows) for name, lane in self._lanes.items()}
        for job in list(self._waiting):
            if isinstance(job, ScoreJob):
                if scores is not None:
                    continue
                scores = job
            else:
                name = job.speaker.identity.name
                if room[name] < len(job.asks):
                    room[name] = 0                                   # nobody overtakes it
                    continue
                room[name] -= len(job.asks)
                jobs.append(job)
            self._waiting.remove(job)
        self._count_waiting()
        return jobs, scores

    def _score(self, job: ScoreJob) -> None:
        name = job.judge.identity.name
        try:
            scores = job.judge.scores(job.prompt, job.responses)
        except Exception as error:  # noqa: BLE001 - one request's failure is not the server's
            job.deliver(_failure(error))
            return
        self.metrics.add("tutelage_scores_total", len(scores), model=name)
        job.deliver(scores)

    def _count_waiting(self) -> None:
        self.metrics.set("tutelage_waiting", len(self._waiting))


class _Lane:
    """One model's batch and whose rows are in it."""

    def __init__(self, speaker: Speaker, metrics: Metrics, max_rows: int) -> None:
        self.speaker, self.metrics, self.max_rows = speaker, metrics, max_rows
        self.name = speaker.identity.name
        self.batch = LiveBatch(speaker.engine)
        self.rows: dict[int, tuple[Job, int]] = {}                   # key in the batch -> job, which of its answers
        self._count()

    def turn(self, jobs: Sequence[Job]) -> None:
        """Let jobs begin and those nobody waits for leave, then move every answer on by a token."""
        try:
            self._leave()
            if jobs:
                self._begin(jobs)
            if self.rows:
                for drawn in self.batch.draw():
                    self._take(drawn)
                self.batch.advance()
                self.metrics.add("tutelage_steps_total", model=self.name)
        except Exception as error:  # noqa: BLE001 - such as no memory for so long a prompt: the server goes on
            failed = {id(job): job for job in (*jobs, *(job for job, _ in self.rows.values()))}
            self.batch, self.rows = LiveBatch(self.speaker.engine), {}
            for job in failed.values():
                job.deliver(_failure(error))
        self._count()

    def _begin(self, jobs: Sequence[Job]) -> None:
        keys = iter(self.batch.add([ask for job in jobs for ask in job.asks]))
        for job in jobs:
            self.rows |= {next(keys): (job, index) for index in range(len(job.asks))}
            self.metrics.add("tutelage_answers_total", len(job.asks), model=self.name)
            self.metrics.add("tutelage_prompt_tokens_total", len(job.asks[0].prompt), model=self.name)
            self.metrics.add("tutelage_first_token_seconds_total", time.perf_counter() - job.arrived, model=self.name)

    def _take(self, drawn: Drawn) -> None:
        job, index = self.rows[drawn.key]
        answer = job.answers[index]
        text = answer.push(drawn.token, drawn.logprob, drawn.finish)
        self.metrics.add("tutelage_completion_tokens_total", model=self.name)
        if answer.finish:
            self.batch.drop([drawn.key])
            del self.rows[drawn.key]
        if text or answer.finish:
            job.deliver(Piece(index, text, answer.finish))

    def _leave(self) -> None:
        gone = [key for key, (job, _) in self.rows.items() if job.cancelled]
        self.batch.drop(gone)
        for key in gone:
            del self.rows[key]
        if gone:
            self.metrics.add("tutelage_answers_left_total", len(gone), model=self.name)

    def _count(self) -> None:
        self.metrics.set("tutelage_rows", len(self.rows), model=self.name)


def _failure(error: Exception) -> Refusal:
    if isinstance(error, DataError):
        return refuse(error)
    log.error("a request failed: %s", error, exc_info=error)
    return Refusal(500, "the model failed at this request; the server's log says why", code="failed")
