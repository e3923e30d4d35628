"""Import into the store: what is new is added once, what cannot be is told by line, and people's work goes on meanwhile."""

from __future__ import annotations

import gzip
import hashlib
import json
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tutelage.base.errors import DataError
from tutelage.base.times import utc_time
from tutelage.feedback import queue, schema
from tutelage.feedback.erase import erase, find
from tutelage.feedback.io import importing
from tutelage.feedback.io.exporting import export
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.overview import overview
from tutelage.feedback.programs import judgement_rows
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.snapshot import freeze
from tutelage.feedback.standing import read_standing
from tutelage.feedback.store import Store

HI = [{"role": "user", "content": "hi"}]


def judged(labeler: str | None, ranks: list[int], answers=("yes", "no"), prompt: Any = HI, **more: Any) -> dict[str, Any]:
    row = {"prompt": prompt, "responses": [{"text": text} for text in answers], "ranks": ranks, "labeler": labeler, **more}
    return {name: value for name, value in row.items() if value is not None}


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(store: Store, table: Any) -> list[Any]:
    with store.read() as conn:
        return list(conn.execute(select(table).order_by(*table.primary_key.columns)))


def test_people_who_judged_one_item_share_its_task(store, tmp_path):
    path = written(tmp_path / "a.jsonl", judged("ann", [0, 1], group="home", seconds=4.0, weight=0.5, p_select=0.25, strength=3,
                                                at="2026-01-01T00:00:00Z"),
                   judged("bo", [1, 0]), judged("cy", [0, 0], answers=("no", "yes")))
    done = import_files(store, path)
    assert dict(done.new) == {"prompts": 1, "responses": 2, "tasks": 1, "labelers": 3, "judgements": 3}
    [task], first, _, tie = rows_of(store, schema.tasks), *rows_of(store, schema.judgements)
    assert (task.kind, task.overlap, task.free, task.state) == ("comparison", 3, 0, "done")
    assert first.value == {"ranks": [0, 1], "strength": 3, "step": 2} and tie.value == {"ranks": [0, 0], "tie": True}
    assert (first.seconds, first.weight, first.p_select, first.created_at) == (4.0, 0.5, 0.25, 1767225600.0)
    assert [row.group for row in rows_of(store, schema.labelers)] == ["home", None, None]


@pytest.mark.parametrize(("odd", "why"), [
    *(({"at": at}, "is before 1970 or to come") for at in (1_763_760_000_000, 1e30, -1.0, "0001-01-02", "9999-12-30", 1_800_090_000)),
    ({"at": 10**400}, "is no time"), *(({"strength": given}, "not from -1e") for given in (10**30, -1e308)),
    ({"rating": 10**30}, "not from -1e"), *(({"p_select": given}, "p_select is") for given in (0, 7, -0.5)),
    *(({"seconds": given}, "seconds is") for given in (-3, 1e300)), ({"weight": 1e300}, "weight is"),
    ({"responses": [{"text": "a", "sampling": {"d": json.loads("[" * 900 + "]" * 900)}}, {"text": "b"}]}, "in one another")])
def test_numbers_that_nobody_meant_are_refused_with_the_reason(store, clock, tmp_path, odd, why):
    assert clock() == 1_800_000_000                                  # a day on, the last time given, is refused: the first second too late
    done = import_files(store, written(tmp_path / "a.jsonl", judged("ann", [0, 1]), judged("bo", [0, 1]) | odd))
    assert done.new["judgements"] == 1 and [why in reason for reason in done.rejected] == [True]


def test_times_of_up_to_a_day_ahead_come_in(store, clock, tmp_path):
    done = import_files(store, written(tmp_path / "a.jsonl", judged("ann", [0, 1], at=0), judged("bo", [0, 1], at=clock() + 86400)))
    assert done.new["judgements"] == 2 and not done.rejected


@pytest.mark.parametrize("at", [1_763_760_000_000, 1e30, -1e308, 253402214400, -62135596801])
def test_a_time_that_is_in_the_store_and_in_no_calendar_stops_nobody(store, clock, tmp_path, at):
    rows = (judged(who, [0, 1], answers=(str(i), "no")) for who in ("ann", "bo") for i in range(9))
    import_files(store, written(tmp_path / "a.jsonl", *rows))
    store.write(lambda conn: conn.execute(update(schema.judgements).where(schema.judgements.c.id.in_((1, 10))).values(created_at=at)))
    with store.read() as conn:
        end = "1970-01-01" if at < 0 else "9999-12-3"
        assert next(judgement_rows(conn, "00", after=0, limit=9))["at"].startswith(end)
        periods = overview(read_standing(conn)).periods
        assert len(periods) == 2 and utc_time(periods[0 if at < 0 else 1].start).isoformat()[:4] == end[:4]
        frozen = freeze(conn, tmp_path / "snapshots")
        assert frozen.counts["judgements"] == 18 and frozen.counts["first" if at < 0 else "last"].startswith(end)
    assert export(store, tmp_path / "out.jsonl", "judgements").judgements == 18 and end in (tmp_path / "out.jsonl").read_text()


def test_the_same_pair_the_other_way_round_is_the_same_item_with_its_ranks_turned(store, tmp_path):
    import_files(store, written(tmp_path / "a.jsonl", judged("ann", [0, 1]), judged("bo", [1, 0], answers=("no", "yes"), sides=[0, 1])))
    one, other = rows_of(store, schema.judgements)
    assert one.task_id == other.task_id and one.value["ranks"] == other.value["ranks"] == [0, 1] and other.sides == [1, 0]


def test_a_file_again_adds_nothing_a_longer_one_what_is_new_and_what_stands_twice_in_it_counts_twice(store, tmp_path):
    rows = [judged("ann", [0, 1]), judged("bo", [1, 0]), judged("ann", [0, 1]), judged("dee", [0, 1], answers=("yes", "so"))]
    path = written(tmp_path / "a.jsonl", *rows, judged("cy", [0, 1], kind="comparison", skipped=True) | {"ranks": None})
    first, again = import_files(store, path), import_files(store, path)
    assert (first.new["judgements"], first.new["skips"], first.known) == (4, 1, 0)
    assert (dict(again.new), again.known) == ({}, 5)
    longer = import_files(store, written(tmp_path / "b.jsonl", *rows, judged("eve", [0, 1])))
    assert (dict(longer.new), longer.known) == ({"labelers": 1, "judgements": 1}, 4)
    renamed = import_files(store, written(tmp_path / "c.jsonl", *reversed(rows)))
    assert (dict(renamed.new), renamed.known) == ({}, 4)
    assert [(task.overlap, task.free) for task in rows_of(store, schema.tasks)] == [(3, 0), (1, 0)]


def test_every_row_is_new_known_or_rejected_also_where_an_item_to_be_judged_is_there_already(store, tmp_path):
    rows = [judged(f"p{i}", [0, 1], prompt=f"ask {i}") for i in range(4)]
    import_files(store, written(tmp_path / "a.jsonl", *rows))
    more = [rows[0], judged("cy", [0, 1], prompt="new"), judged("cy", [0], answers=("yes",))]
    again = import_files(store, written(tmp_path / "b.jsonl", *rows, *more), to_judge="comparison")
    assert (again.read, again.new["tasks"], again.known, again.known_tasks, again.num_rejected) == (7, 1, 5, 5, 1)
    skip = judged("cy", [0, 1], kind="comparison", skipped=True) | {"ranks": None}
    skips = import_files(store, written(tmp_path / "c.jsonl", skip, skip))
    assert (skips.read, skips.new["skips"], skips.known) == (2, 1, 1)


def test_what_stands_before_the_place_where_a_file_breaks_is_in_the_store_and_the_mended_file_adds_the_rest(store, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_ROWS_AT_ONCE", 9)
    rows = [json.dumps(judged(f"p{i}", [0, 1])) for i in range(30)]
    path = tmp_path / "a.json"
    path.write_text("[" + ",\n".join(rows)[:-20])
    before = written(tmp_path / "before.jsonl", judged("ann", [1, 0]))
    with pytest.raises(DataError, match=r"a\.json:30: the JSON array is broken off") as told:
        import_files(store, [before, path])
    assert "from a.json and the files before it: 1 prompts, 2 responses, 1 tasks, 30 labelers, 30 judgements; give" in str(told.value.hint)
    entries = [(row.subject, row.details.get("broke_off"), row.details["judgements"], row.details["sha256"]) for row in
               rows_of(store, schema.audit)]
    assert entries == [("before.jsonl", None, 1, hashlib.sha256(before.read_bytes()).hexdigest()),
                       ("a.json", True, 29, hashlib.sha256(path.read_bytes()).hexdigest())]
    path.write_text("[" + ",\n".join(rows) + "]")
    done = import_files(store, path)
    assert (done.new["judgements"], done.known) == (1, 29)


def test_items_for_more_people_than_judged_them_go_to_the_others(store, tmp_path):
    path = written(tmp_path / "a.jsonl", judged("ann", [0, 1]))
    import_files(store, path, overlap=2)
    import_files(store, written(tmp_path / "b.jsonl", {"prompt": HI, "responses": ["new", "old"]}), to_judge="comparison", overlap=1)
    [task, open_task] = rows_of(store, schema.tasks)
    assert (task.overlap, task.free, task.state, open_task.free) == (2, 1, "open", 1)
    from tutelage.feedback.content import add_labeler

    bo = store.write(lambda conn: add_labeler(conn, name="bo", now=1.0, screening={"state": "passed"}))
    ann = rows_of(store, schema.labelers)[0].id
    store.write(lambda conn: conn.execute(update(schema.labelers).values(screening={"state": "passed"})))
    given = [store.write(lambda conn, who=who: queue.claim(conn, who, now=store.now())) for who in (ann, bo, bo)]
    assert [claim and claim.task_id for claim in given[:2]] == [open_task.id, task.id]
    store.write(lambda conn: queue.submit(conn, assignment_id=given[1].assignment_id, labeler_id=bo, value={"tie": True}, now=store.now()))
    more = import_files(store, written(tmp_path / "c.jsonl", judged("ann", [0, 1]), judged("cy", [0, 1])))
    task = rows_of(store, schema.tasks)[0]
    assert more.known == 1 and (task.overlap, task.free) == (3, 0)


def test_gold_is_given_to_everyone_with_the_answer_the_file_knows(store, tmp_path):
    task = {"id": 1, "data": {"prompt": "hi", "answer1": "yes", "answer2": "no"}, "annotations": [{
        "completed_by": "expert", "ground_truth": True, "was_cancelled": False, "result": [
            {"from_name": "p", "to_name": "p", "type": "pairwise", "value": {"selected": "left"}},
            {"from_name": "why", "to_name": "p", "type": "textarea", "value": {"text": ["kinder"]}}]}]}
    import_files(store, written(tmp_path / "a.jsonl", task))
    [found] = rows_of(store, schema.tasks)
    assert (found.purpose, found.free, found.state) == ("gold", 1, "open")
    assert found.expected == {"ranks": [0, 1], "comment": "kinder", "reasons": "kinder"}


def test_a_prompt_or_answer_that_was_erased_here_stays_erased(store, tmp_path):
    path = written(tmp_path / "a.jsonl", judged("ann", [0, 1]), judged("ann", [0, 1], answers=("so", "no")))
    import_files(store, path)
    first = rows_of(store, schema.responses)[0].id
    store.write(lambda conn: conn.execute(update(schema.responses).where(schema.responses.c.id == first).values(text=None, erased_at=1.0)))
    again = import_files(store, written(tmp_path / "b.jsonl", judged("bo", [0, 1]), judged("bo", [0, 1], answers=("so", "no"))))
    erased = again.rejected["its prompt, an answer or who said it was erased here"]
    assert again.new["judgements"] == 1 and erased.lines == [f"{tmp_path / 'b.jsonl'}:1"]
    store.write(lambda conn: conn.execute(update(schema.prompts).values(user="u-1")))
    store.write(lambda conn: erase(conn, find(conn, "user", "u-1", key_of_store(conn)), now=store.now()))
    assert import_files(store, path).num_rejected == 2


def test_rejected_rows_are_counted_by_reason_with_their_lines_and_the_rest_comes_in(store, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([json.dumps(judged("ann", [0, 1])), "{", json.dumps(judged("ann", [0, 1], answers=("yes", "yes"))), "[1]",
                               json.dumps(judged("ann", [0, 1], answers=("x" * 1_000_001, "no")))]) + "\n")
    done = import_files(store, path)
    assert done.new["judgements"] == 1 and done.num_rejected == 4 and done.read == 5
    assert done.rejected["two of its answers are the same"].lines == [f"{path}:3"]
    assert any("too long" in reason for reason in done.rejected) and any(reason.startswith("not JSON") for reason in done.rejected)


def test_a_dry_run_counts_what_an_import_adds_and_adds_nothing(store, tmp_path, monkeypatch):
    import_files(store, written(tmp_path / "a.jsonl", judged("ann", [0, 1])))
    before = [rows_of(store, table) for table in (schema.prompts, schema.tasks, schema.judgements, schema.audit)]
    files = [written(tmp_path / "b.jsonl", judged("ann", [0, 1]), judged("bo", [1, 0]), judged("bo", [0, 1], prompt="new")),
             written(tmp_path / "c.jsonl", judged("bo", [1, 0], prompt="new"))]
    look = import_files(store, files, dry_run=True)
    assert (look.read, look.known, look.layouts, look.counted) == (4, 1, ["judgement"], True)
    assert dict(look.new) == {"prompts": 1, "responses": 2, "tasks": 1, "labelers": 1, "judgements": 3}
    assert [rows_of(store, table) for table in (schema.prompts, schema.tasks, schema.judgements, schema.audit)] == before
    done = import_files(store, files)
    assert (dict(done.new), done.known) == (dict(look.new), look.known)
    monkeypatch.setattr(importing, "MOST_LOOKED_AT", 3)
    many = import_files(store, files, dry_run=True)
    assert (many.read, many.counted, dict(many.new)) == (4, False, {})


def test_a_look_writes_nothing_so_that_nobody_waits_for_it_and_counts_what_comes_twice_in_its_files(store, tmp_path, monkeypatch):
    import_files(store, written(tmp_path / "a.jsonl", judged("ann", [0, 1]), judged("gone", [0, 1], prompt="theirs")))
    store.write(lambda conn: erase(conn, find(conn, "labeler", "gone", key_of_store(conn)), now=store.now()))
    skip = judged("cy", [0, 1], kind="comparison", skipped=True) | {"ranks": None}
    rows = [judged("ann", [1, 0], answers=("no", "yes")), judged("bo", [0, 1]), judged("bo", [0, 1]), skip, judged("gone", [0, 1])]
    files = [written(tmp_path / "b.jsonl", *rows), written(tmp_path / "c.jsonl", *rows),
             written(tmp_path / "d.jsonl", *reversed(rows), skip | {"labeler": "dee"}, judged("bo", [0, 1], prompt="new"))]
    for kind, found in ((None, (3, 2, 9)), ("comparison", (0, 0, 17))):
        with monkeypatch.context() as patched:
            patched.setattr(store, "write", lambda work: pytest.fail("a look wrote"))
            look = import_files(store, files, dry_run=True, to_judge=kind)
        done = import_files(store, files, to_judge=kind)
        assert (look.new["judgements"], look.new["skips"], look.known) == found
        assert (look.new, look.known, look.known_tasks, look.num_rejected) == (done.new, done.known, done.known_tasks, done.num_rejected)


def test_each_import_stands_in_the_audit_log_with_the_file_s_hash(store, tmp_path):
    path = written(tmp_path / "a.jsonl", judged("ann", [0, 1]))
    import_files(store, path)
    import_files(store, path)
    [entry] = rows_of(store, schema.audit)
    assert (entry.action, entry.subject, entry.details["judgements"]) == ("feedback.import", "a.jsonl", 1)
    assert entry.details["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_labelers_of_two_files_are_told_apart_by_a_prefix_and_unnamed_ones_are_laid_to_their_file(store, tmp_path):
    import_files(store, written(tmp_path / "a.jsonl", judged("1", [0, 1])), prefix="a/")
    import_files(store, written(tmp_path / "b.jsonl", judged("1", [0, 1]), judged(None, [1, 0])), prefix="b/")
    assert [row.name for row in rows_of(store, schema.labelers)] == ["a/1", "b/1", "b/b (not named)"]


@pytest.mark.parametrize("name, content, told", [
    ("a.zip", b"PK\x03\x04" + bytes(100), "a zip archive"), ("a.jsonl", b"\xff\xfe{\x00", "UTF-16"), ("a.jsonl", b"", "is empty"),
    ("a.jsonl.gz", b"not gzip", "is not gzip data"), ("a.json", b'[{"data": {}, ', "broken off"), ("a.jsonl", b"\x80\n", "not UTF-8")])
def test_uploads_that_are_no_feedback_are_refused_in_one_line(fresh, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told) as error:
        import_files(fresh(), tmp_path / name)
    assert "\n" not in str(error.value) and error.value.hint


@pytest.mark.slow
def test_a_gzip_bomb_is_refused_within_bounded_memory(fresh, tmp_path):
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as file:
        row = json.dumps(judged("ann", [0, 1], answers=("yes", "0" * (1 << 20)))).encode() + b"\n"
        for _ in range(1200):
            file.write(row)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="a gzip bomb, not text"):
        import_files(fresh(), tmp_path / "bomb.jsonl.gz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000                    # kilobytes


def test_memory_does_not_grow_with_the_file(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_ROWS_AT_ONCE", 200)

    def peak(rows: int) -> int:
        path = written(tmp_path / f"{rows}.jsonl", *(judged(f"p{i % 7}", [0, 1], prompt=f"q{i}") for i in range(rows)))
        store = fresh()
        tracemalloc.start()
        try:
            import_files(store, path)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)                                                       # what is imported and compiled once
    assert peak(4000) < 1.6 * peak(500)


def test_reading_goes_on_while_a_file_comes_in(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "_ROWS_AT_ONCE", 1)
    store = fresh()
    seen = []
    original = importing._write

    def spied(rows, conn, **about):
        with store.read() as reader:
            seen.append(reader.execute(select(func.count()).select_from(schema.judgements)).scalar_one())
        return original(rows, conn, **about)

    monkeypatch.setattr(importing, "_write", spied)
    import_files(store, written(tmp_path / "a.jsonl", *(judged(f"p{i}", [0, 1]) for i in range(3))))
    assert seen == [0, 1, 2]


def test_a_file_comes_in_by_writes_of_at_most_200_rows_between_which_others_have_theirs(fresh, tmp_path, monkeypatch):
    written_at_once, write = [], importing._write

    def counted(rows, conn, **about):
        written_at_once.append(len(rows))                           # 2000 held the store for 0.7 s of a machine with five at work
        return write(rows, conn, **about)

    monkeypatch.setattr(importing, "_write", counted)
    import_files(fresh(), written(tmp_path / "a.jsonl", *(judged(f"p{i % 50}", [0, 1], prompt=f"q{i}") for i in range(450))))
    assert max(written_at_once) <= 200 and sum(written_at_once) == 450
