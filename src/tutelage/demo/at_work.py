"""The panel in the studio: six simulated labelers who claim and submit through the same queue as people, and can be watched."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from tutelage.base.errors import TutelageError
from tutelage.base.log import get_logger
from tutelage.base.records import Judgement, Prompt, prompt_from_json
from tutelage.demo.panel import LABELERS, Panel
from tutelage.feedback import queue
from tutelage.feedback.content import add_labeler
from tutelage.feedback.schema import labelers, prompts, responses, tasks
from tutelage.feedback.store import Store

KINDS = ("comparison", "ranking", "label")
LEFT_FOR_PEOPLE = 15
"""Open tasks of a kind that the panel leaves alone."""
log = get_logger("demo")


class PanelAtWork:
    """A thread in which the panel's members take turns, one judgement every `pause` seconds, until `close`.

    A few tasks of each kind stay open for the people who watch.
    """

    def __init__(self, store: Store, *, seed: int = 0, pause: float = 2.0) -> None:
        self._store, self._panel, self._pause = store, Panel(seed), pause
        self._rng = np.random.default_rng([seed, 8])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="panel", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the judgement at hand."""
        self._ended.set()
        self._thread.join()

    def __enter__(self) -> PanelAtWork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        with self._store.read() as conn:
            ids = {row.name: row.id for row in conn.execute(select(labelers.c.id, labelers.c.name)) if row.name in self._panel.names}
        while ids and not self._ended.wait(self._pause):
            name = str(self._rng.choice(sorted(ids)))
            try:
                judge_one(self._store, self._panel, name, ids[name], self._rng)
            except TutelageError as error:                           # a lead shut this labeler out, or took the task away
                log.info("the panel's %s stops: %s", name, error)
                del ids[name]


def simulate(store: Store, *, seed: int = 0, limit: int | None = None) -> dict[str, int]:
    """The panel judges what is open, all of it or so many, by turns. Returns labeler -> judgements.

    Members who have no account get one, past their screening; what an account of that name is shut out of, it is not given.
    """
    panel, rng, done = Panel(seed), np.random.default_rng([seed, 9]), Counter[str]()
    ids = store.write(lambda conn: _accounts(conn, store.now()))
    willing = sorted(ids)
    while willing and (limit is None or done.total() < limit):
        name = str(rng.choice(willing))
        try:
            if judge_one(store, panel, name, ids[name], rng, leave=0):
                done[name] += 1
                continue
        except TutelageError as error:
            log.info("the panel's %s stops: %s", name, error)
        willing.remove(name)
    return dict(sorted(done.items()))


def _accounts(conn: Connection, now: float) -> dict[str, int]:
    ids = {row.name: row.id for row in conn.execute(select(labelers.c.id, labelers.c.name))}
    return {one.name: ids[one.name] if one.name in ids else
            add_labeler(conn, name=one.name, now=now, group=one.group, screening={"state": "passed"}) for one in LABELERS}


def judge_one(store: Store, panel: Panel, name: str, labeler_id: int, rng: np.random.Generator, *, leave: int = LEFT_FOR_PEOPLE) -> bool:
    """One member claims a task, judges it as it stands on the page, and submits. Returns whether there was one.

    leave: open tasks of a kind that are left to people.
    """
    with store.read() as conn:
        kinds = _plenty(conn, leave)
    claim = store.write(lambda conn: queue.claim(conn, labeler_id, now=store.now(), kinds=kinds)) if kinds else None
    if claim is None:
        return False
    with store.read() as conn:
        prompt, texts = _content(conn, claim)
    if claim.kind == "label":
        judgement = panel.rate(prompt, texts[0], name, rng)
    else:
        judgement = panel.judge(prompt, texts, name, rng, first=0)
    store.write(lambda conn: queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=labeler_id, value=as_given(judgement),
                                          now=store.now(), seconds=judgement.seconds, interface_version="panel"))
    return True


def as_given(judgement: Judgement) -> dict[str, Any]:
    """What the page's form would have said (`feedback.values`); the judgement speaks of the answers as they stood on it."""
    if judgement.kind == "label":
        return {"label": judgement.label}
    assert judgement.ranks is not None
    if judgement.kind == "ranking":
        return {"ranks": list(judgement.ranks)}
    if judgement.ranks[0] == judgement.ranks[1]:
        return {"tie": True}
    strength = int(judgement.strength or 1)
    return {"choice": 5 - strength if judgement.ranks[0] < judgement.ranks[1] else 4 + strength}


def _plenty(conn: Connection, leave: int) -> list[str]:
    """Kinds of which there is enough for the panel and for people."""
    open_tasks = select(tasks.c.kind).where(tasks.c.state == "open", tasks.c.free > 0, tasks.c.purpose.in_(("work", "rollout")),
                                             tasks.c.kind.in_(KINDS))
    return [row.kind for row in conn.execute(open_tasks.group_by(tasks.c.kind).having(func.count() > leave))]


def _content(conn: Connection, claim: queue.Claim) -> tuple[Prompt, list[str]]:
    """The prompt, and the answers in the page's order."""
    content = conn.scalar(select(prompts.c.content).where(prompts.c.id == claim.prompt_id))
    found = {row.id: row.text for row in conn.execute(select(responses.c.id, responses.c.text).where(responses.c.id.in_(claim.shown_ids)))}
    return prompt_from_json(content), [found[response_id] for response_id in claim.shown_ids]
