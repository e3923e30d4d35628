"""A sentence is planted wherever people can write; after they are erased no byte of the data folder holds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.feedback.few import put
from tutelage.base.config import read_yaml
from tutelage.base.errors import ArtifactError
from tutelage.feedback import accounts, content, queue, schema
from tutelage.feedback.erase_files import Traces, redact_run
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io import importing
from tutelage.feedback.io.exporting import export
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.reports import add_report
from tutelage.feedback.snapshot import freeze, record
from tutelage.feedback.stats import stats
from tutelage.feedback.store import Store
from tutelage.feedback.triage import triage
from tutelage.lineage.erasing import erase_person, runs_made_of
from tutelage.lineage.ledger import describe_input

PLANTED = "the walrus sings at noon"
NAME = f"Ann ({PLANTED})"
SAID = {"comparison": {"choice": 2, "comment": PLANTED}, "critique": {"critique": PLANTED}, "edit": {"edit": PLANTED},
        "demonstration": {"text": PLANTED}, "prompt": {"text": PLANTED, "examples": [{"prompt": PLANTED, "response": PLANTED}]}}


def row(who: str, comment: str, prompt: str = "imported?", **more) -> dict:
    return {"prompt": prompt, "responses": [{"text": "yes"}, {"text": "no"}], "kind": "comparison", "ranks": [0, 1], "labeler": who,
            "comment": comment} | more


def written(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


class Planted:
    """A store in which Ann and Bo work, and Ann has written the sentence wherever she could."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.ann = store.write(lambda conn: accounts.add_account(conn, name=NAME, role="lead", password_hash="none", now=store.now()))
        self.bo = store.write(lambda conn: accounts.add_account(conn, name="Bo", role="expert", password_hash="none", now=store.now()))
        self.plain = self.task("comparison", ("a", "b"))
        for kind, value in SAID.items():
            asked = self.plain if kind == "comparison" else self.task(kind, ("a",) if kind in ("critique", "edit") else ())
            self.judge(asked, self.ann, value)
        self.of_hers()
        self.beside_judgements()
        import_files(store, [written(folder.parent / "in.jsonl", row(NAME, PLANTED), row("Cy", "good"),
                                     row(NAME, PLANTED, "known?", gold=True))])
        self.snapshot()

    def task(self, kind: str, answers: tuple[str, ...], author: int | None = None, prompt: str = "", **more) -> int:
        def work(conn):
            now, number = self.store.now(), conn.scalar(select(func.count()).select_from(schema.tasks))
            if kind == "prompt":
                return content.add_task(conn, kind=kind, now=now)
            asked = content.add_prompt(conn, content=prompt or f"question {number}", source="labeler", now=now, **more)
            ids = [content.add_response(conn, prompt_id=asked, text=text, now=now, author_id=author) for text in answers]
            return content.add_task(conn, kind=kind, prompt_id=asked, response_ids=ids, now=now, overlap=2)

        return self.store.write(work)

    def hold(self, task: int, who: int) -> int:
        """An assignment of the task, as if the queue had given it."""
        def work(conn):
            sides = list(range(len(conn.scalar(select(schema.tasks.c.response_ids).where(schema.tasks.c.id == task)))))
            conn.exec_driver_sql(f"UPDATE tasks SET free = free - 1 WHERE id = {task}")
            return put(conn, "assignments", task_id=task, labeler_id=who, state="reserved", sides=sides, claimed_at=self.store.now(),
                       expires_at=self.store.now() + 3600)

        return self.store.write(work)

    def judge(self, task: int, who: int, value: dict) -> int:
        held = self.hold(task, who)
        return self.store.write(lambda conn: queue.submit(conn, assignment_id=held, labeler_id=who, value=value, now=self.store.now()))

    def of_hers(self) -> None:
        """Her prompt and her answer, what Bo said of them, and what a model made of her answer."""
        store = self.store
        self.hers = self.task("edit", ("a model's, which quotes: " + PLANTED,), prompt=PLANTED, author_id=self.ann)
        self.on_hers = self.judge(self.hers, self.bo, {"edit": "better: " + PLANTED})
        self.answered = self.task("critique", (PLANTED,), author=self.ann)
        held = self.hold(self.answered, self.bo)
        his = {"assignment_id": held, "labeler_id": self.bo, "now": store.now()}
        store.write(lambda conn: queue.save_draft(conn, draft={"critique": PLANTED}, **his))
        store.write(lambda conn: add_report(conn, kind="harm", text=PLANTED, **his))

        def revised(conn):
            of = conn.execute(select(schema.responses).where(schema.responses.c.author_id == self.ann)).first()
            content.add_response(conn, prompt_id=of.prompt_id, text=PLANTED + "!", now=store.now(), model="m", revises_id=of.id)

        def after_her_critique(conn):
            about = conn.execute(select(schema.tasks).where(schema.tasks.c.kind == "critique")).first()
            made = content.add_response(conn, prompt_id=about.prompt_id, text="better, as you said: " + PLANTED, now=store.now(), model="m",
                                        revises_id=about.response_ids[0])
            return content.add_task(conn, kind="edit", prompt_id=about.prompt_id, response_ids=about.response_ids, now=store.now(),
                                    extra={"revision": made})

        store.write(revised)
        self.hold(store.write(after_her_critique), self.ann)

    def beside_judgements(self) -> None:
        """What she typed that is no judgement: drafts, reasons, reports, answers, talk, names of tokens, what a lead writes."""
        store, now = self.store, self.store.now()
        skipped, drafted, asked = (self.hold(self.task("comparison", ("a", "b")), self.ann) for _ in range(3))
        store.write(lambda conn: queue.skip(conn, assignment_id=skipped, labeler_id=self.ann, reason=PLANTED, now=now))
        store.write(lambda conn: queue.save_draft(conn, assignment_id=drafted, labeler_id=self.ann, draft={"t": PLANTED}, now=now))
        store.write(lambda conn: add_report(conn, kind="question", assignment_id=asked, labeler_id=self.ann, text=PLANTED, now=now))
        store.write(lambda conn: triage(conn, task_id=self.plain, verdict="model_error", by_id=self.ann, now=now, text=PLANTED))
        store.write(lambda conn: accounts.open_session(conn, self.ann, now=now, user_agent=PLANTED))
        store.write(lambda conn: accounts.make_api_token(conn, self.ann, name=PLANTED, scopes=["tasks:write"], now=now))

        def more(conn):
            about = conn.execute(select(schema.tasks).where(schema.tasks.c.id == self.plain)).one()
            accounts.set_setting_of(conn, self.ann, theme=PLANTED)
            put(conn, "reports", kind="question", labeler_id=self.bo, text="how?", answer=PLANTED, answered_by=self.ann, created_at=now)
            talk = [{"role": "user", "content": PLANTED}]
            put(conn, "conversations", labeler_id=self.ann, messages=talk, comment=PLANTED, created_at=now)
            content.record_audit(conn, action="make token", now=now, actor_id=self.ann, subject=PLANTED, group=PLANTED)
            gold = content.add_task(conn, kind="comparison", prompt_id=about.prompt_id, response_ids=about.response_ids, now=now,
                                    purpose="gold", expected={"ranks": [0, 1], "reasons": "why: " + PLANTED})
            content.record_audit(conn, action="make item", now=now, actor_id=self.ann, subject=f"task {self.plain}", made=gold)
            content.record_audit(conn, action="role lead", now=now, actor_id=self.bo, subject=NAME)

        store.write(more)

    def snapshot(self) -> None:
        """A snapshot, and a training on it as it leaves its folder."""
        with self.store.read() as conn:
            self.frozen = freeze(conn, self.folder / "snapshots")
        known = self.store.write(lambda conn: record(conn, self.frozen, now=self.store.now()))
        self.run = self.folder / "trainings" / "reward-1"
        (self.run / "report").mkdir(parents=True)
        rows = [json.loads(line) for line in (self.frozen.path / "judgements.jsonl").read_text().splitlines()]
        told = [{"task": one["task"], "prompt": one["prompt"], "said": [{"judgement": one["judgement"], "labeler": one["labeler"]}]}
                for one in rows]
        written(self.run / "report" / "disagreements.jsonl", *told)
        (self.run / "report" / "reward.json").write_text(json.dumps({"people": {"labelers": {NAME: 0.5, "Cy": 1.0}}}))
        (self.run / "masks.txt").write_text(f"a row of the data: {PLANTED}")
        self.run.with_suffix(".log").write_text(f"1 row of {NAME}\n")
        lineage = {"verb": "reward", "parents": {"data": [describe_input(self.frozen.path / "judgements.jsonl")]}}
        (self.run / "lineage.json").write_text(json.dumps(lineage))
        put_ = {"snapshot_id": known, "run_dir": str(self.run), "state": "done", "result": {"people": {NAME: 1}}, "created_at": 1.0}
        self.store.write(lambda conn: put(conn, "trainings", **put_))

    def holding(self) -> set[str]:
        """Files of the data folder, and of PostgreSQL's tables, that hold the sentence, in UTF-8 or as JSON escapes nothing of it."""
        folders = [self.folder]
        if self.store.url.get_backend_name() == "postgresql":
            import psycopg

            address = self.store.url.set(drivername="postgresql").render_as_string(hide_password=False)
            with psycopg.connect(address, autocommit=True) as conn:
                conn.execute("CHECKPOINT")                          # to the disk with what is there, off it with dropped files
                base = Path(conn.execute("SHOW data_directory").fetchone()[0], "base")
                folders.append(base / str(conn.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]))
        return {path.name for folder in folders for path in folder.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()}


@pytest.fixture
def planted(store, tmp_path) -> Planted:
    folder = tmp_path / "data"
    folder.mkdir()
    if store.url.get_backend_name() == "sqlite":                    # the store's file lies in the folder too
        store.close()
        (folder / "studio.db").write_bytes((tmp_path / "studio.db").read_bytes())
        with Store.open(folder / "studio.db", clock=store.now) as moved:
            moved.write(lambda conn: conn.exec_driver_sql("PRAGMA secure_delete=OFF"))             # as SQLite is built in many places
            yield Planted(moved, folder)
    else:
        yield Planted(store, folder)


def count(store: Store, table, *where) -> int:
    with store.read() as conn:
        return conn.scalar(select(func.count()).select_from(table).where(*where))


def test_after_an_erasure_no_byte_of_the_data_folder_holds_the_planted_sentence(planted):
    before = planted.holding()
    assert {"judgements.jsonl", "disagreements.jsonl", "reward.json", "masks.txt", "reward-1.log",
            "snapshot.json"} < before and len(before) > 5
    planted.store.write(lambda conn: conn.exec_driver_sql("ANALYZE"))                              # PostgreSQL samples values by itself
    other = Store.open(planted.store.url.render_as_string(hide_password=False))                    # a studio is running meanwhile
    with other.read() as conn:
        conn.execute(select(schema.judgements)).all()
    told = erase_person(planted.store, "labeler", NAME)
    other.close()
    assert planted.holding() == set() and told.scrubbed
    with planted.store.read() as conn:
        assert PLANTED not in repr([conn.execute(select(table)).all() for table in schema.metadata.sorted_tables])
    assert told.counts["judgements"] == len(SAID) + 2 and told.counts["judgements_of_others"] == 1


def test_what_was_erased_no_longer_counts_and_what_others_said_elsewhere_stands(planted):
    by_cy = count(planted.store, schema.judgements, schema.judgements.c.value.is_not(None)) - len(SAID) - 3
    erase_person(planted.store, "labeler", NAME)
    standing = schema.judgements.outerjoin(schema.retractions)
    with planted.store.read() as conn:
        left = conn.scalar(select(func.count()).select_from(standing).where(schema.retractions.c.id.is_(None)))
        people = [person["labeler"] for person in stats(conn, resamples=0)["people"]]
        assert left == by_cy == 1 and people == ["Cy"]
        assert freeze(conn, planted.folder / "again").counts["labelers"] == {"Cy": 1}
        assert accounts.find_login(conn, NAME, now=1.0) is None and accounts.find_login(conn, f"erased {planted.ann}", now=1.0) is None
        halted = conn.execute(select(schema.tasks.c.state, schema.tasks.c.expected).where(schema.tasks.c.id == planted.hers)).one()
    assert halted == ("done", None) and count(planted.store, schema.tombstones) == 1
    open_to_bo = planted.store.write(lambda conn: queue.claim(conn, planted.bo, now=planted.store.now()))
    assert open_to_bo is None or open_to_bo.task_id not in (planted.hers, planted.answered)


def test_places_that_an_erased_person_held_are_free_again(planted):
    given = schema.assignments.c
    hers = select(given.task_id).where(given.labeler_id == planted.ann, given.state == "reserved")
    with planted.store.read() as conn:
        held = conn.scalars(hers).all()
    assert len(held) == 3
    erase_person(planted.store, "labeler", NAME)
    with planted.store.read() as conn:
        assert conn.scalars(hers).all() == []
        free = conn.execute(select(schema.tasks.c.free, schema.tasks.c.overlap).where(schema.tasks.c.id.in_(held))).all()
    assert [row.free for row in free] == [row.overlap for row in free]


def test_a_dry_run_tells_what_would_go_and_changes_nothing(planted):
    before = planted.holding()
    told = erase_person(planted.store, "labeler", NAME, dry_run=True)
    assert planted.holding() == before and count(planted.store, schema.tombstones) == 0
    done = erase_person(planted.store, "labeler", NAME)
    assert (told.counts, told.snapshots, told.tainted) == (done.counts, done.snapshots, done.tainted) and told.snapshots[0]["rows"] == 5


def test_a_file_given_again_does_not_bring_an_erased_person_back(planted, tmp_path):
    erase_person(planted.store, "labeler", NAME)
    known = count(planted.store, schema.labelers)
    again = import_files(planted.store, [written(tmp_path / "in.jsonl", row(NAME, PLANTED), row("Cy", "good"),
                                                 row(NAME, "and more", "another?"), row("Cy", "new", PLANTED))])
    assert dict(again.new) == {} and again.num_rejected == 3 and again.known == 1
    assert count(planted.store, schema.labelers) == known and planted.holding() == set()
    with pytest.raises(ContentError, match="was erased here"):
        planted.task("comparison", ("a", "b"), prompt=PLANTED)
    planted.task("comparison", ("a", "b"), prompt=PLANTED, author_id=planted.bo)                   # his own, of the same words
    assert planted.store.url.get_backend_name() == "postgresql" or planted.holding()


def test_snapshots_and_trainings_are_tainted_and_nothing_trains_from_what_is_left(planted):
    downstream = planted.folder / "ppo"
    downstream.mkdir()
    (downstream / "lineage.json").write_text(json.dumps({"verb": "ppo", "parents": {"reward": {"path": "x", "run": str(planted.run)}}}))
    told = erase_person(planted.store, "labeler", NAME, runs=[planted.folder])
    assert told.tainted == [{"run": str(downstream), "verb": "ppo"}, {"run": str(planted.run), "verb": "reward"}]
    with planted.store.read() as conn:
        kept, stones = conn.execute(select(schema.snapshots)).one(), conn.scalars(select(schema.tombstones.c.subject_hash)).all()
    assert [note["subject_hash"] for note in kept.tainted] == stones
    assert kept.counts["labelers"] == {f"erased {planted.ann}": 4, "Bo": 1, "Cy": 1}
    with pytest.raises(ArtifactError, match="lost 5 rows since it was frozen, of people who were erased"):
        describe_input(planted.frozen.path / "judgements.jsonl")
    rows = (planted.frozen.path / "judgements.jsonl").read_text().splitlines()
    assert [json.loads(line)["labeler"] for line in rows] == ["Cy"]
    assert runs_made_of([planted.folder], {"f" * 64}) == []


@pytest.mark.parametrize(("name", "before", "after"), [
    ("Ann", "reliability: Ann: weight 0.34 for 9 labels\nAnna's annotator Ann_2 and ANN; no labeler 'Ann', Ann.\n",
     "reliability: erased 7: weight 0.34 for 9 labels\nAnna's annotator Ann_2 and ANN; no labeler 'erased 7', erased 7.\n"),
    ("a", "reliability: a: weight 0.34 for a labeler; no labeler 'a'\n",
     "reliability: erased 7: weight 0.34 for a labeler; no labeler 'erased 7'\n"),
    ("1", "step 1 of 1: 0.1\nreliability: 1: weight 0.10\n", "step 1 of 1: 0.1\nreliability: erased 7: weight 0.10\n"),
    ("O'Neil (QA)", "O&#x27;Neil (QA) and O'Neil (QA), not O'Neil\n", "erased 7 and erased 7, not O'Neil\n")])
def test_a_name_goes_from_logs_where_it_is_the_name_and_nothing_else_does(tmp_path, name, before, after):
    (tmp_path / "run").mkdir()
    (tmp_path / "run.log").write_text(before)
    redact_run(tmp_path / "run", Traces(frozenset(), frozenset(), name, "erased 7"))
    assert (tmp_path / "run.log").read_text() == after


def test_a_name_goes_from_a_runs_settings_whatever_it_looks_like(tmp_path):
    (tmp_path / "config.yaml").write_text("people: {held_out: ['1', bo], names: 1}\nrate: 1e-4\n")
    redact_run(tmp_path, Traces(frozenset(), frozenset(), "1", "erased 7"))
    assert read_yaml(tmp_path / "config.yaml") == {"people": {"held_out": ["erased 7", "bo"], "names": 1}, "rate": 1e-4}


def test_copies_that_left_are_told_with_their_dates(planted, clock):
    out = planted.folder.parent / "out.jsonl"
    export(planted.store, out, "judgements")
    pseudonym = {json.loads(line)["labeler"] for line in out.read_text().splitlines() if PLANTED in line and '"comparison"' in line}.pop()
    if planted.store.url.get_backend_name() == "sqlite":
        planted.store.backup(planted.folder.parent / "monday.db")
    told = "\n".join(erase_person(planted.store, "labeler", NAME).unreached)
    assert f"the export of 2027-01-15, in which they are called {pseudonym}: {out}" in told and "in.jsonl they came in with" in told
    assert f"the weights of {planted.run}: delete the run" in told
    scales = planted.run / "ckpt" / "step-000002" / "model" / "people.json"
    scales.parent.mkdir(parents=True)
    scales.write_text("{}")
    again = erase_person(planted.store, "labeler", NAME).unreached
    assert f"the weights of {planted.run} and people.json beside them, which names who rated: delete the run, and train it again" in again
    if planted.store.url.get_backend_name() == "sqlite":
        assert f"the backup of 2027-01-15: {planted.folder.parent / 'monday.db'}" in told
    else:
        assert "write-ahead log" in told


def test_an_erasure_that_was_cut_off_is_finished_by_the_next(planted, monkeypatch):
    monkeypatch.setattr("tutelage.lineage.erasing.redact_snapshot", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        erase_person(planted.store, "labeler", NAME)
    monkeypatch.undo()
    assert "judgements.jsonl" in planted.holding()
    told = erase_person(planted.store, "labeler", NAME)
    assert planted.holding() == set() and told.erased_before == "2027-01-15" and count(planted.store, schema.tombstones) == 1


def test_a_customer_is_erased_by_the_id_of_their_prompts(store, tmp_path):
    rows = [row("Cy", f"quotes {PLANTED}", PLANTED, user="u-1"), row("Cy", "fine", "another's", user="u-2")]
    import_files(store, [written(tmp_path / "in.jsonl", *rows)])
    told = erase_person(store, "user", "u-1")
    assert told.counts == {"prompts": 1, "answers": 2, "tasks": 1, "judgements_of_others": 1}
    with store.read() as conn:
        assert PLANTED not in repr([conn.execute(select(table)).all() for table in schema.metadata.sorted_tables])
        assert set(conn.scalars(select(schema.prompts.c.user))) == {None, "u-2"}
    again = import_files(store, [written(tmp_path / "in.jsonl", *rows, row("Cy", "more", "a third", user="u-1"))])
    assert (dict(again.new), again.known, again.num_rejected) == ({}, 1, 2)
    assert erase_person(store, "user", "u-1").erased_before == "2027-01-15"


@pytest.mark.parametrize(("what", "name"), [("labeler", "Dee"), ("user", "u-1")])
def test_who_is_erased_while_a_file_comes_in_does_not_come_in_with_the_rest_of_it(store, tmp_path, monkeypatch, what, name):
    monkeypatch.setattr(importing, "_ROWS_AT_ONCE", 2)
    rows = [row("Cy", "fine", "another's"), row("Dee", PLANTED, f"{PLANTED} 1", user="u-1")]
    rows += [row("Dee", PLANTED, f"{PLANTED} {n}", user="u-1") for n in range(2, 8)] + [row("Cy", "fine", "the last")]
    write, batches = store.write, []

    def erasing(work):
        made = write(work)
        if hasattr(made, "erased"):                                  # a batch of the import
            batches.append(made)
            if len(batches) == 2:
                erase_person(store, what, name)
        return made

    monkeypatch.setattr(store, "write", erasing)
    done = import_files(store, [written(tmp_path / "in.jsonl", *rows)])
    assert len(batches) == 5 and done.num_rejected == 4 and done.new["judgements"] == 5
    with store.read() as conn:
        said, people, asked = (repr(conn.scalars(select(column)).all()) for column in (
            schema.judgements.c.value, schema.labelers.c.name, schema.prompts.c.content))
    assert PLANTED not in said and (PLANTED not in asked if what == "user" else "Dee" not in people)


def test_nobody_and_the_only_admin_are_refused(store):
    with pytest.raises(ContentError, match=r"knows no labeler 'Anm' \(did you mean Ann"):
        store.write(lambda conn: accounts.add_account(conn, name="Ann", role="admin", password_hash="none", now=store.now()))
        erase_person(store, "labeler", "Anm")
    with pytest.raises(accounts.AccountError, match="only admin"):
        erase_person(store, "labeler", "Ann")
    assert count(store, schema.tombstones) == 0
