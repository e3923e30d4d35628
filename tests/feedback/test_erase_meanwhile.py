"""Somebody is erased while something else goes on with what they wrote: none of it comes back, and what cannot be reached is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.feedback import few
from tutelage.base.scratch import scratch_dir, sweep
from tutelage.feedback import conversations, queue, retrain, schema, snapshot
from tutelage.feedback.content import add_prompt, add_task
from tutelage.feedback.conversations import Sampled
from tutelage.feedback.erase import erase, find
from tutelage.feedback.errors import ErasedError, QueueError, RetrainError
from tutelage.feedback.io.exporting import export
from tutelage.feedback.items import copy_task
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.reports import add_report, answer_report
from tutelage.feedback.revisions import add_revision, criticised
from tutelage.feedback.snapshot import FREEZING, freeze, freeze_and_record
from tutelage.feedback.store import Store
from tutelage.feedback.triage import triage
from tutelage.lineage.erasing import erase_person

PLANTED = "the walrus sings at noon"
ENDS_AT_ONCE = (sys.executable, "-c", "")


@pytest.fixture
def people(store) -> None:
    """Ann and Bo, who said something each."""
    def work(conn):
        for name in ("Ann", "Bo"):
            asked = few.task(conn, few.prompt(conn, f"{name}?"), ["a"], "critique")
            few.judgement(conn, asked, few.labeler(conn, name), {"critique": f"{name}: {PLANTED}"}, "critique")
    store.write(work)


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "data" / "snapshots"


@pytest.fixture
def policy(tmp_path) -> Path:
    """What looks like a model."""
    (tmp_path / "config.json").touch()
    return tmp_path


def rows(folder: Path) -> list[str]:
    """Who is in which file of rows, wherever such a file lies."""
    return sorted(json.loads(line)["labeler"] for file in folder.rglob("judgements.jsonl") for line in file.read_text().splitlines())


def meanwhile(monkeypatch, what) -> None:
    """Do something after the rows were read the first time, before they are recorded."""
    def frozen(*given):
        found = freeze(*given)
        monkeypatch.setattr(snapshot, "freeze", freeze)
        what()
        return found

    monkeypatch.setattr(snapshot, "freeze", frozen)
    monkeypatch.setattr(Store, "scrub", lambda _: None)             # it waits for whoever reads, which is us


def test_what_is_trained_on_is_frozen_anew_when_somebody_was_erased_meanwhile(store, people, folder, policy, monkeypatch):
    meanwhile(monkeypatch, lambda: erase_person(store, "labeler", "Ann"))
    training = retrain.start(store, policy=policy, folder=folder.parent, program=ENDS_AT_ONCE)
    assert rows(training.snapshot) == ["Bo"] and rows(folder.parent) == ["Bo"], "and what was frozen first is gone"
    assert training.judgements == 1


def test_an_erasure_names_the_freeze_that_goes_on(store, people, folder):
    freeze_and_record(store, folder, None, lambda *_: None)
    with scratch_dir(folder, FREEZING):
        told = erase_person(store, "labeler", "Ann").unreached
    assert f"a snapshot that is being frozen now in {folder.resolve()}, which begins anew without them" in told
    assert "frozen now" not in str(erase_person(store, "labeler", "Ann").unreached)


def test_who_comes_second_to_retrain_leaves_no_folder_that_no_row_tells_of(store, people, folder, policy, monkeypatch):
    def first():
        store.write(lambda conn: few.put(conn, "trainings", state="running", run_dir=str(folder / "none"), created_at=store.now(),
                                         snapshot_id=few.put(conn, "snapshots", hash="f", path=str(folder / "f"), selection={}, counts={},
                                                             created_at=store.now())))

    meanwhile(monkeypatch, first)
    with pytest.raises(RetrainError, match="still running"):
        retrain.start(store, policy=policy, folder=folder.parent, program=ENDS_AT_ONCE)
    assert list(folder.iterdir()) == []


def test_a_folder_that_was_there_before_stays_whoever_is_refused(store, people, folder):
    kept, _ = freeze_and_record(store, folder, None, lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        freeze_and_record(store, folder, None, lambda *_: 1 / 0)
    with store.read() as conn:
        assert conn.scalar(select(func.count()).select_from(schema.snapshots)) == 1
    assert rows(kept.path) == ["Ann", "Bo"]


def killed(code: str, folder: Path) -> None:
    """Run this in a process that says when it is in the middle, and kill it there."""
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.wait()


FREEZES = f"""
import pathlib, sys, time
from tutelage.base.scratch import scratch_dir
with scratch_dir(pathlib.Path(sys.argv[1]), {FREEZING!r}) as aside:
    (aside / "judgements.jsonl").write_text('{{"labeler": "Ann", "judgement": 1}}\\n')
    print("now", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("after", ["erase", "freeze"])
def test_what_a_killed_freeze_left_is_deleted_by_an_erasure_and_by_the_next_freeze(store, people, folder, after):
    freeze_and_record(store, folder, None, lambda *_: None)
    killed(FREEZES, folder)
    assert rows(folder) == ["Ann", "Ann", "Bo"]
    if after == "erase":
        erase_person(store, "labeler", "Ann")
        assert rows(folder) == ["Bo"]
    else:
        freeze_and_record(store, folder, None, lambda *_: None)
        assert rows(folder) == ["Ann", "Bo"]


def test_a_freeze_that_was_killed_before_any_was_recorded_is_found_too(store, people, folder, monkeypatch):
    monkeypatch.setattr(snapshot, "freeze", lambda *_: os.kill(os.getpid(), 0) or 1 / 0)            # noted, and then nothing more
    with pytest.raises(ZeroDivisionError):
        freeze_and_record(store, folder, None, lambda *_: None)
    folder.mkdir(parents=True)
    killed(FREEZES, folder)
    erase_person(store, "labeler", "Ann")
    assert rows(folder) == []


def test_a_folder_of_no_record_is_named_and_not_touched(store, people, folder):
    freeze_and_record(store, folder, None, lambda *_: None)
    with store.read() as conn:                                      # frozen, and killed before it was recorded
        lost = freeze(conn, folder, snapshot.Selection(kinds=("critique",), before=few.AT + 1))
        same = freeze(conn, folder)
    assert same.path == lost.path
    store.write(lambda conn: conn.execute(schema.snapshots.delete()))
    told = erase_person(store, "labeler", "Ann").unreached
    assert (f"{lost.path.resolve()}, of which the store has no record and 1 rows may be theirs: delete it, unless it is another store's"
            in told)
    assert rows(folder) == ["Ann", "Bo"]


def test_an_export_that_was_cut_off_is_named_with_what_it_left(store, people, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    left = tmp_path / ".out.jsonl.tmp-0123456789ab"
    monkeypatch.setattr("tutelage.feedback.io.exporting._items", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(store, out, "judgements")
    left.write_text(PLANTED)                                        # as a kill leaves it, with nothing said of its end
    told = "\n".join(erase_person(store, "labeler", "Ann").unreached)
    assert f"{out}" in told and f"what was written of it until it was cut off: {left}" in told


def test_a_backup_that_was_cut_off_is_named_too(tmp_path, monkeypatch):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: few.labeler(conn, "Ann"))
        monkeypatch.setattr("tutelage.feedback.store._check_copy", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.backup(tmp_path / "monday.db")
        assert str(tmp_path / "monday.db") in "\n".join(erase_person(store, "labeler", "Ann").unreached)


def test_a_sweep_leaves_what_somebody_works_in_and_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "work-dead").mkdir()
    with scratch_dir(tmp_path, "work-") as mine:
        assert sweep(tmp_path, "work-") == [mine] and mine.is_dir() and mine.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "work-link"]


@pytest.fixture
def held(store) -> tuple[int, int]:
    """(who, the assignment): an edit of an answer to a customer's prompt that Bo holds while the customer is erased."""
    def work(conn):
        asked = few.prompt(conn, "a customer's", source="customer", user="u-1")
        who, now = few.labeler(conn, "Bo", role="expert"), store.now()
        return who, queue.give(conn, few.task(conn, asked, [PLANTED], "edit", free=1), who, now=now).assignment_id

    found = store.write(work)
    store.write(lambda conn: erase(conn, find(conn, "user", "u-1", key_of_store(conn)), now=store.now()))
    return found


def texts(store) -> str:
    with store.read() as conn:
        return repr([conn.execute(select(table)).all() for table in schema.metadata.sorted_tables])


@pytest.mark.parametrize("what", ["draft", "submit", "skip", "report"])
def test_nothing_that_is_sent_about_what_was_erased_is_kept(store, held, what):
    mine = {"labeler_id": held[0], "assignment_id": held[1], "now": store.now()}
    send = {"draft": lambda conn: queue.save_draft(conn, draft={"text": PLANTED}, **mine),
            "submit": lambda conn: queue.submit(conn, value={"edit": PLANTED}, **mine),
            "skip": lambda conn: queue.skip(conn, reason=PLANTED, **mine),
            "report": lambda conn: add_report(conn, kind="harm", text=PLANTED, **mine)}
    with pytest.raises(ErasedError, match="nothing that you wrote about it was kept"):
        store.write(send[what])
    assert PLANTED not in texts(store)


def test_nothing_is_kept_of_somebody_who_was_erased_while_they_sent_it(store):
    def work(conn):
        who = few.labeler(conn, "Bo", role="expert")
        return who, queue.give(conn, few.task(conn, few.prompt(conn), ["a"], "edit", free=1), who, now=store.now()).assignment_id

    who, assignment = store.write(work)
    erase_person(store, "labeler", "Bo")
    with pytest.raises(ErasedError):
        store.write(lambda conn: queue.save_draft(conn, labeler_id=who, assignment_id=assignment, now=store.now(), draft={"text": PLANTED}))
    assert PLANTED not in texts(store)


def test_a_lead_makes_nothing_more_of_what_was_erased(store, held):
    with store.read() as conn:
        task = conn.scalar(select(schema.tasks.c.id))
    lead = store.write(lambda conn: few.labeler(conn, "Cy", role="lead"))
    report = store.write(lambda conn: few.put(conn, "reports", kind="question", task_id=task, labeler_id=held[0], created_at=1.0))
    for send in (lambda conn: triage(conn, task_id=task, verdict="guideline_gap", by_id=lead, now=1.0, text=PLANTED),
                 lambda conn: copy_task(conn, task, purpose="gold", by_id=lead, now=1.0, expected={"ranks": [0]}, reasons=PLANTED),
                 lambda conn: answer_report(conn, report, text=PLANTED, by_id=lead, now=1.0)):
        with pytest.raises(ErasedError):
            store.write(send)
    assert PLANTED not in texts(store)


@pytest.mark.parametrize("gone", ["user", "labeler"])
def test_a_revision_that_comes_after_the_erasure_is_dropped(store, gone):
    def work(conn):
        asked = few.prompt(conn, "a customer's", source="customer", user="u-1")
        who = few.labeler(conn, "Bo", role="expert")
        held = queue.give(conn, few.task(conn, asked, ["b"], "critique", free=1), who, now=store.now()).assignment_id
        queue.submit(conn, assignment_id=held, labeler_id=who, value={"critique": "kinder"}, now=store.now())
        return who, criticised(conn, held, who)

    who, about = store.write(work)
    erase_person(store, gone, {"user": "u-1", "labeler": "Bo"}[gone])
    with pytest.raises(QueueError, match="was erased" if gone == "user" else "dropped"):
        store.write(lambda conn: add_revision(conn, about, Sampled(PLANTED), who, now=store.now()))
    assert PLANTED not in texts(store)


@pytest.mark.parametrize("what", ["draft", "reply", "end"])
def test_nothing_that_is_said_in_a_conversation_about_what_was_erased_is_kept(store, what):
    def work(conn):
        who = few.labeler(conn, "Bo", role="expert")
        words = [{"role": "user", "content": "A customer's words."}]
        prompt = add_prompt(conn, content=words, source="customer", user="u-1", now=store.now())
        held = queue.give(conn, add_task(conn, kind="conversation", prompt_id=prompt, now=store.now()), who, now=store.now())
        return who, conversations.start(conn, labeler_id=who, assignment_id=held.assignment_id, now=store.now())

    who, talk = store.write(work)
    mine, answers = {"labeler_id": who, "now": store.now()}, [Sampled("one", "m"), Sampled("other", "m")]
    store.write(lambda conn: conversations.reply(conn, talk, at=1, text=None, answers=answers, **mine))
    store.write(lambda conn: conversations.choose(conn, talk, at=1, value={"choice": 2}, **mine))
    store.write(lambda conn: erase(conn, find(conn, "user", "u-1", key_of_store(conn)), now=store.now()))
    send = {"draft": lambda conn: conversations.keep_draft(conn, talk, who, {"text": PLANTED}, now=store.now()),
            "reply": lambda conn: conversations.reply(conn, talk, at=0, text=PLANTED, answers=answers, **mine),
            "end": lambda conn: conversations.end(conn, talk, rating=3, comment=PLANTED, **mine)}
    with pytest.raises(QueueError, match="no such conversation"):
        store.write(send[what])
    assert PLANTED not in texts(store)
