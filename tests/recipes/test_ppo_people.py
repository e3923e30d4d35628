"""PPO rewarded by people: it waits for them, learns what they say, survives being killed while it waits, and asks for nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from sqlalchemy import func, select

from tests.feedback import few
from tests.small import ppo_config
from tutelage.base.errors import ConfigError
from tutelage.base.records import Message
from tutelage.feedback import queue, schema
from tutelage.feedback.content import add_labeler
from tutelage.feedback.store import Store
from tutelage.recipes.ppo import preview, train_ppo
from tutelage.recipes.ppo_people import PeopleReward, groups_of
from tutelage.rewards.mix import StudioSection


class Briefly(threading.Thread):
    """Somebody who prefers the shorter answer, at work in the store until `stop`."""

    def __init__(self, path) -> None:
        super().__init__(daemon=True)
        self.path, self.done, self.ended = path, Counter(), threading.Event()

    def run(self) -> None:
        with Store.open(self.path) as store:
            who = store.write(lambda conn: add_labeler(conn, name="brief", now=store.now(), screening={"state": "passed"}))
            while not self.ended.is_set():
                held = store.write(lambda conn: queue.claim(conn, who, now=store.now()))
                if held is None:
                    time.sleep(0.02)
                    continue
                with store.read() as conn:
                    found = dict(conn.execute(select(schema.responses.c.id, schema.responses.c.text)).all())
                words = [len(found[i].split()) for i in held.shown_ids]
                value = {"ranks": [sorted(set(words)).index(n) for n in words]}
                if held.kind == "rating":
                    value = {"rating": max(1, 7 - words[0])}
                if held.kind == "comparison":
                    value = {"tie": True} if words[0] == words[1] else {"choice": 1 if words[0] < words[1] else 8}
                store.write(lambda conn, held=held, value=value: queue.submit(conn, assignment_id=held.assignment_id, labeler_id=who,
                                                                             value=value, now=store.now()))
                self.done[held.kind] += 1

    def __enter__(self) -> Briefly:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join(20)


def asking(path, **studio):
    return {"model": {"reward": None}, "rewards": {"people": {"studio": {"database": str(path), "poll_seconds": 0.02} | studio}}}


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tasks_of(path) -> list:
    with Store.open(path) as store, store.read() as conn:
        return conn.execute(select(schema.tasks).order_by(schema.tasks.c.id)).all()


def test_a_policy_learns_what_people_prefer_among_its_answers_to_a_prompt(small, tmp_path):
    path, algo = tmp_path / "studio.db", {"num_iterations": 6, "batch_size": 32, "minibatch_size": 16, "kl_coef": 0.0}
    cfg = ppo_config(small, tmp_path / "run", asking(path), {"rollout": {"max_tokens": 12, "answers_per_prompt": 4}, "algo": algo,
                                                             "optim": {"learning_rate": 3e-3}})
    with Briefly(path) as somebody:
        train_ppo(cfg)
    rows = metrics(tmp_path / "run")
    assert rows[-1]["response/tokens"] < rows[0]["response/tokens"] - 1
    assert all(abs(row["objective/score"]) < 1e-6 for row in rows)   # an order of a prompt's answers adds up to nothing
    assert somebody.done["ranking"] > 6 and {task.purpose for task in tasks_of(path)} == {"rollout"}
    parents = json.loads((tmp_path / "run/lineage.json").read_text())["parents"]
    assert parents["reward people"] == {"name": f"studio {path}"}


def test_model_reward_studio_has_single_answers_rated_in_the_store_of_the_environment(small, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_DATABASE_URL", str(tmp_path / "studio.db"))
    cfg = ppo_config(small, tmp_path / "run", {"model": {"reward": "studio"}, "algo": {"num_iterations": 1}})
    with Briefly(tmp_path / "studio.db") as somebody:
        train_ppo(cfg)
    with Store.open() as store, store.read() as conn:
        said = conn.scalars(select(schema.judgements.c.value)).all()
    assert somebody.done == {"rating": 8}
    assert metrics(tmp_path / "run")[0]["objective/score"] == pytest.approx(sum((value["rating"] - 4) / 3 for value in said) / 8)


@pytest.mark.parametrize(("studio", "score"), [({"overlap": 2}, 1.0), ({"overlap": 2, "reliability": False}, 0.0)])
def test_of_two_people_the_one_who_contradicts_everybody_is_not_learnt_from(tmp_path, studio, score, caplog):
    def judged(conn):
        people = [few.labeler(conn, name) for name in ("ann", "bob", "cyd", "opp")]
        for number in range(60):
            made = few.task(conn, few.prompt(conn, f"q{number}"), ["x", "y"])
            for who in people:
                few.judgement(conn, made, who, {"ranks": [0, 1] if (number % 2 == 0) != (who == people[3]) else [1, 0]})
        asked = few.task(conn, few.prompt(conn, "rollout"), ["a"], "rating", purpose="rollout", state="done")
        for who, rating in ((people[0], 7), (people[3], 1)):
            few.judgement(conn, asked, who, {"rating": rating}, "rating")
        return asked

    caplog.set_level("INFO")
    with Store.open(tmp_path / "studio.db") as store:
        asked = store.write(judged)
        reward = PeopleReward(store, StudioSection(**studio), None, "run", {}, lambda: False)
        assert reward._wait({asked: [1]}, 0).scores == {asked: [pytest.approx(score)]}
    assert ("people are weighed: 0.00, " in caplog.text) == studio.get("reliability", True) and "opp" not in caplog.text


RUN = """
import sys
from tutelage.cli.main import main
main(["ppo", *sys.argv[1:]])
"""


def test_a_run_killed_while_it_waits_asks_for_nothing_twice_and_ends_as_one_that_was_not(small, tmp_path):
    path, folder = tmp_path / "studio.db", tmp_path / "run"
    Store.open(path).close()
    settings = [f"model.policy={small.sft}", f"data.files=[{small.prompts}]", f"rewards.people.studio.database={path}",
                "rewards.people.studio.poll_seconds=0.02", "rollout.max_tokens=6", "algo.num_iterations=2", "algo.batch_size=8",
                "algo.minibatch_size=4", "save.every_steps=1", "--run-dir", str(folder)]
    waits = subprocess.Popen([sys.executable, "-c", RUN, *settings], env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
                             stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not tasks_of(path) and time.monotonic() < until:
        time.sleep(0.05)
    asked = tasks_of(path)
    waits.send_signal(signal.SIGKILL)
    waits.wait()
    assert len(asked) == 8 and not (folder / "metrics.jsonl").exists()
    over = asking(path), {"algo": {"num_iterations": 2}, "save": {"every_steps": 1}}
    with Briefly(path):
        train_ppo(ppo_config(small, folder, *over, {"resume": True}))
    with Briefly(tmp_path / "other.db"):
        train_ppo(ppo_config(small, tmp_path / "other", asking(tmp_path / "other.db"), *over[1:]))
    killed = tasks_of(path)
    assert [task.id for task in killed[:8]] == [task.id for task in asked] and len(killed) == 16
    with Store.open(path) as store, store.read() as conn:
        assert conn.scalar(select(func.count()).select_from(schema.responses)) == 16
    first, other = metrics(folder), metrics(tmp_path / "other")
    assert [row["objective/score"] for row in first] == [row["objective/score"] for row in other]


def test_a_signal_ends_the_wait_and_what_people_said_meanwhile_is_used_by_the_resumed_run(small, tmp_path):
    path, folder = tmp_path / "studio.db", tmp_path / "run"
    over = asking(path), {"algo": {"num_iterations": 1}}
    timer = threading.Timer(3.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(Exception, match="stopped by signal 2 before its first checkpoint"):
        train_ppo(ppo_config(small, folder, *over))
    with Briefly(path):
        train_ppo(ppo_config(small, folder, *over, {"resume": True}))
    assert len(tasks_of(path)) == 8


def test_a_preview_asks_nobody(small, tmp_path):
    path = tmp_path / "studio.db"
    assert preview(ppo_config(small, tmp_path / "run", asking(path)))["forecast"]["steps"] == 2 and not path.exists()


def test_answers_are_judged_with_the_others_to_their_prompt_and_alone_where_there_is_no_other():
    hi, ho = (Message("user", "hi"),), (Message("user", "ho"),)
    assert groups_of([hi, ho, hi, hi], ["a", "b", "c", "a"]) == [[0, 2], [1]]
    assert groups_of([hi, hi], ["same", "same"]) == []               # nothing to compare: their score is 0, the mean of any order
    many = groups_of([hi] * 20, [str(n) for n in range(20)])
    assert sorted(map(len, many)) == [6, 7, 7] and sorted(sum(many, [])) == list(range(20))


def test_a_batch_that_does_not_hold_whole_groups_is_refused(small, tmp_path):
    with pytest.raises(ConfigError, match="algo.batch_size=8 is not a multiple of rollout.answers_per_prompt=3"):
        ppo_config(small, tmp_path, {"rollout": {"answers_per_prompt": 3}})
