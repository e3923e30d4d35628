"""The demo's studio: tasks of every kind, and a panel that goes through the queue as people do."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import select

from tutelage.demo.at_work import LEFT_FOR_PEOPLE, as_given, judge_one, simulate
from tutelage.demo.gold import score
from tutelage.demo.panel import LABELERS, Panel
from tutelage.demo.tasks import COUNTS, fill
from tutelage.feedback.content import add_prompt, add_response, add_task
from tutelage.feedback.schema import KINDS, judgements, labelers, prompts, responses, tasks
from tutelage.feedback.store import Store
from tutelage.feedback.values import stored


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: fill(conn, 0, store.now()))
        yield store


def test_there_is_work_of_every_kind_and_practice_in_the_words_of_the_gold(store):
    with store.read() as conn:
        rows = conn.execute(select(tasks.c.kind, tasks.c.purpose, tasks.c.expected, prompts.c.content, tasks.c.response_ids)
                            .outerjoin(prompts, prompts.c.id == tasks.c.prompt_id)).all()
        texts = {row[0]: row[1] for row in conn.execute(select(responses.c.id, responses.c.text))}
    assert Counter(row.kind for row in rows if row.purpose == "work") == COUNTS | {"prompt": 3}
    assert set(COUNTS) | {"prompt", "conversation"} == set(KINDS)
    for row in (row for row in rows if row.purpose == "practice" and "ranks" in row.expected):
        gold = [score(row.content[0]["content"], texts[i]) for i in row.response_ids]
        assert [sorted(gold, reverse=True).index(g) for g in gold] == row.expected["ranks"], "the reasons teach what the demo measures"


def test_the_careless_one_is_told_by_the_clock(store):
    panel, rng = Panel(0), np.random.default_rng(0)
    with store.read() as conn:
        ids = {row[0]: row[1] for row in conn.execute(select(labelers.c.name, labelers.c.id))}
    for _ in range(20):
        for name in panel.names:
            assert judge_one(store, panel, name, ids[name], rng)
    with store.read() as conn:
        rows = conn.execute(select(judgements.c.labeler_id, judgements.c.seconds)).all()
    medians = {name: float(np.median([row.seconds for row in rows if row.labeler_id == ids[name]])) for name in panel.names}
    assert len(rows) == 120 and medians.pop("falk") < 0.5 * min(medians.values())


def test_what_the_panel_says_survives_the_page(store):
    panel, rng = Panel(0), np.random.default_rng(1)
    answers = ["To brew tea, you need a kettle. First boil fresh water.", "How lazy can one be? Start with a frying pan."]
    for _ in range(40):
        judgement = panel.judge("How do I brew tea?", answers, "amara", rng)
        kept = stored("comparison", as_given(judgement), [0, 1])
        assert tuple(kept["ranks"]) == judgement.ranks and kept.get("strength", judgement.strength) == judgement.strength


def test_some_tasks_stay_for_people(store):
    panel, rng = Panel(0), np.random.default_rng(0)
    with store.read() as conn:
        ids = {row[0]: row[1] for row in conn.execute(select(labelers.c.name, labelers.c.id))}
    while any([judge_one(store, panel, name, ids[name], rng) for name in panel.names]):
        pass
    with store.read() as conn:
        left = Counter(conn.scalars(select(tasks.c.kind).where(tasks.c.free > 0, tasks.c.purpose == "work")))
    assert all(left[kind] == LEFT_FOR_PEOPLE for kind in ("comparison", "ranking", "label"))


def test_the_panel_heeds_which_answer_stood_first():
    panel, rng = Panel(0), np.random.default_rng(2)
    same = ["I do not know."] * 2
    wins = [panel.judge("Do you know the time?", same, "falk", rng, first=1).ranks for _ in range(2000)]
    expected = panel_first(panel)
    assert abs(np.mean([w[1] < w[0] for w in wins]) - expected) < 0.03


def panel_first(panel: Panel) -> float:
    """P(the one shown first wins) between equals: the difference of two Gumbels is logistic."""
    falk = panel.labeler("falk")
    return float(1 / (1 + np.exp(-(falk.first - falk.tie) / falk.noise)))


def test_the_panel_judges_all_that_is_open_and_nobody_twice(store):
    # Every comparison and ranking wants 3 people, every label 2 (demo/tasks.py).
    assert sum(simulate(store, limit=10).values()) == 10
    assert sum(simulate(store).values()) + 10 == 3 * COUNTS["comparison"] + 3 * COUNTS["ranking"] + 2 * COUNTS["label"]
    assert simulate(store) == {}


def test_the_panel_brings_its_accounts_to_a_store_without_them(tmp_path):
    def work(conn) -> None:
        prompt = add_prompt(conn, content="what is tea", source="demo", now=1.0)
        answers = [add_response(conn, prompt_id=prompt, text=text, now=1.0) for text in ("yes", "no")]
        add_task(conn, kind="comparison", prompt_id=prompt, response_ids=answers, overlap=6, now=1.0)

    with Store.open(tmp_path / "new.db") as new:
        new.write(work)
        assert simulate(new) == dict.fromkeys(sorted(one.name for one in LABELERS), 1)
