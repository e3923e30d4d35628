"""What a write and a read are worth: on disk when acknowledged, alone when they fail, and refused where they could be lost."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from tests.feedback.world import comparisons, labelers
from tutelage.base.errors import ConfigError
from tutelage.feedback import content, location, schema, writer
from tutelage.feedback.errors import KeptError, StoreError
from tutelage.feedback.store import Store


def count(store, table=schema.audit) -> int:
    with store.read() as conn:
        return len(conn.execute(select(table)).all())


def note(conn, text="x", **details):
    return content.record_audit(conn, action=text, now=0.0, **details)


def together(store, *works) -> list:
    """Have the works run in one group: they queue up behind one that waits. Returns results and exceptions."""
    started, gate = threading.Event(), threading.Event()
    first = store._writer.submit(lambda conn: (started.set(), gate.wait(10)))
    started.wait(10)
    futures = [store._writer.submit(work) for work in works]
    gate.set()
    first.result(10)
    return [future.exception(10) or future.result() for future in futures]


def test_what_was_written_is_read(store):
    assert store.write(note) == 1
    assert count(store) == 1


def test_works_that_wait_together_share_a_commit(store, monkeypatch):
    monkeypatch.setattr(writer, "MAX_GROUP_SECONDS", 60.0)          # however slow the machine is just now
    commits = []
    event.listen(store._engines[1], "commit", lambda conn: commits.append(1))
    together(store, *[note] * 50)
    assert count(store) == 50 and len(commits) <= 2


def test_one_failing_work_does_not_harm_the_others(store):
    def fails(conn):
        note(conn, "lost")
        raise KeyError("mine")

    def breaks_a_rule(conn):
        note(conn, "lost")
        conn.execute(schema.judgements.insert().values(task_id=99, labeler_id=99, kind="label", created_at=0.0))

    results = together(store, note, fails, note, breaks_a_rule, note)
    assert [type(result).__name__ for result in results] == ["int", "KeyError", "int", "IntegrityError", "int"]
    assert count(store) == 3


def test_a_refusal_that_keeps_what_was_typed_is_committed(store):
    def refuses(conn):
        note(conn, "draft")
        raise KeptError("too late")

    with pytest.raises(KeptError, match="too late"):
        store.write(refuses)
    assert count(store) == 1


def test_a_reader_sees_one_moment_and_cannot_write(store):
    store.write(note)
    with store.read() as conn:
        assert len(conn.execute(select(schema.audit)).all()) == 1
        store.write(note)
        assert len(conn.execute(select(schema.audit)).all()) == 1
    assert count(store) == 2
    with pytest.raises(StoreError, match="read-only"), store.read() as conn:
        note(conn)
    with pytest.raises(StoreError, match="read-only"), store.read() as conn:
        conn.execute(schema.audit.insert().values(at=0.0, action="x"))


def test_writes_of_an_event_loop_happen_even_when_nobody_waits_any_more(store):
    async def scene():
        assert await asyncio.gather(*[store.write_async(note) for _ in range(10)]) == list(range(1, 11))
        waiting = asyncio.create_task(store.write_async(lambda conn: (time.sleep(0.05), note(conn))))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())
    assert store.write(lambda conn: None) is None                   # comes after the abandoned one
    assert count(store) == 11


def test_many_threads_lose_nothing(store):
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda n: store.write(note), range(200)))
    assert sorted(numbers) == list(range(1, 201)) and count(store) == 200


def test_a_closed_store_says_so_after_finishing_what_it_was_given(address):
    store = Store.open(address)
    futures = [store._writer.submit(note) for _ in range(20)]
    store.close()
    assert sorted(future.result(0) for future in futures) == list(range(1, 21))
    with pytest.raises(StoreError, match="closed"):
        store.write(note)
    store.close()


def test_a_full_disk_acknowledges_nothing_and_the_store_goes_on_when_there_is_room(tmp_path):
    store = Store.open(tmp_path / "studio.db")
    store.write(note)
    pages = store.write(lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar())
    store.write(lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}").scalar())
    small, large = together(store, note, lambda conn: note(conn, "y" * 100_000))
    assert isinstance(large, StoreError) and "disk is full" in str(large) and small == 2
    with pytest.raises(StoreError, match="disk is full"):
        store.write(lambda conn: note(conn, "y" * 100_000))
    assert count(store) == 2
    store.write(lambda conn: conn.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
    store.write(lambda conn: note(conn, "y" * 100_000))
    assert count(store) == 3


def test_a_disk_that_takes_no_more_bytes_acknowledges_nothing(tmp_path):
    """The system refuses to let the log grow: the error comes from the kernel, at the commit."""
    store = Store.open(tmp_path / "studio.db")
    store.write(note)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = Path(f"{tmp_path / 'studio.db'}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 20_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="not saved"):
            store.write(lambda conn: note(conn, "y" * 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.write(note) == 2 and count(store) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk to fill")
def test_a_disk_that_is_really_full(tmp_path):
    import subprocess

    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with Store.open(folder / "studio.db") as store:
            store.write(note)
            filler = folder / "filler"
            with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            with pytest.raises(StoreError, match="disk is full"):
                store.write(lambda conn: note(conn, "y" * 50_000))
            assert count(store) == 1
            filler.unlink()
            assert store.write(lambda conn: note(conn, "y" * 50_000)) and count(store) == 2
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_another_process_holding_the_database_is_waited_for(tmp_path):
    path = tmp_path / "studio.db"
    with Store.open(path) as store:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.2, lambda: other.execute("COMMIT")).start()
        assert store.write(note) == 1
        other.close()


def test_a_network_file_system_is_refused_with_the_remedy(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    share = tmp_path / "my share"
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(f"22 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n35 22 0:52 / {escaped} rw - nfs4 server:/home rw\n"
                      f"36 35 0:53 / {escaped}/local rw shared:2 master:1 - xfs /dev/b rw\n")
    monkeypatch.setattr(location, "MOUNTS", mounts)
    assert location.file_system(tmp_path / "studio.db") == "ext4"
    assert location.file_system(share / "local" / "studio.db") == "xfs"
    with pytest.raises(StoreError, match=r"network file system \(nfs4\)") as error:
        Store.open(share / "studio.db")
    assert "PostgreSQL" in error.value.hint and not list(share.glob("*"))


def test_the_kernel_names_this_file_system(tmp_path):
    named = location.file_system(tmp_path)
    assert named is None or (named not in location.NETWORK and named)


def test_a_backup_of_a_store_in_use_is_whole_and_can_be_opened(tmp_path, clock):
    with Store.open(tmp_path / "studio.db", clock=clock) as store:
        labelers(store, 3)
        comparisons(store, 20)
        stop = threading.Event()

        def writes():
            while not stop.is_set():
                store.write(lambda conn: (note(conn, "pair"), note(conn, "pair")))

        thread = threading.Thread(target=writes)
        thread.start()
        try:
            copy = store.backup(tmp_path / "backups" / "monday.db")
        finally:
            stop.set()
            thread.join()
        with pytest.raises(StoreError, match="exists"):
            store.backup(copy)
        rows = {table.name: count(store, table) for table in schema.metadata.sorted_tables}
        notes = rows.pop("audit")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    # Restore: the copy is put where the store was.
    for left in tmp_path.glob("studio.db*"):
        left.unlink()
    copy.rename(tmp_path / "studio.db")
    with Store.open(tmp_path / "studio.db", clock=clock) as restored:
        assert count(restored) % 2 == 1 and count(restored) <= notes, "the pairs, and the line that it is being made"
        assert {table.name: count(restored, table) for table in schema.metadata.sorted_tables if table.name != "audit"} == rows
        assert restored.write(note)


def test_a_backup_leaves_nothing_half_made(tmp_path, new_postgresql):
    with Store.open(tmp_path / "studio.db") as store:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        try:
            with pytest.raises(StoreError, match="backup failed"):
                store.backup(tmp_path / "copies" / "full.db")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list((tmp_path / "copies").iterdir()) == []
    with Store.open(new_postgresql()) as store, pytest.raises(StoreError) as error:
        store.backup(tmp_path / "copy.db")
    assert error.value.hint.startswith("pg_dump")


def test_the_database_is_readable_by_its_owner_only(tmp_path):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(note)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("studio.db*")} == {0o600}


@pytest.mark.parametrize(("url", "told"), [
    ("mysql://host/name", "does not run on mysql"), ("sqlite://", "file of its own"), ("sqlite:///:memory:", "file of its own"),
    ("postgresql+psycopg://h:port/x", "cannot be read"),
])
def test_an_address_that_cannot_be_is_a_config_error(url, told):
    with pytest.raises(ConfigError, match=told):
        Store.open(url)


def test_where_the_store_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTELAGE_DATABASE_URL", "postgres://me:secret@host/name")
    assert location.shown(location.locate()) == "postgresql+psycopg://me:***@host/name"
    monkeypatch.setenv("TUTELAGE_DATABASE_URL", "")
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    assert location.locate().database == str(tmp_path / "studio.db")
    assert location.locate(tmp_path / "a b?.db").database == str(tmp_path / "a b?.db")
    with Store.open(tmp_path / "a b?#%41.db") as store:
        store.write(note)
        store.backup(tmp_path / "copy.db")
    assert (tmp_path / "a b?#%41.db").exists()


def test_a_server_that_is_not_there_is_told_in_one_line(tmp_path, new_postgresql):
    with pytest.raises(StoreError, match="cannot be reached") as error:
        Store.open(f"postgresql://me:secret@/name?host={tmp_path}")
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
    address = new_postgresql()
    with Store.open(address) as store:                              # the link breaks, and comes again by itself
        assert store.write(note) == 1
        with pytest.raises(StoreError, match="cannot be reached"):
            store.write(lambda conn: (note(conn), conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")))
        assert store.write(note) >= 2 and count(store) == 2


def test_every_connection_waits_for_the_disk_and_holds_rows_to_what_they_refer_to(tmp_path):
    def pragmas(conn):
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]

    with Store.open(tmp_path / "studio.db") as store:
        assert store.write(pragmas) == ["wal", 2, 1, 30_000]        # 2 is FULL: each commit is fsynced
        with store.read() as conn:
            assert pragmas(conn) == ["wal", 2, 1, 30_000]


@pytest.mark.parametrize("name", ["link.db", os.fsdecode(b"monday\xff.db")])
def test_a_backup_follows_no_dangling_link_and_takes_no_name_that_is_not_utf_8(tmp_path, clock, name):
    (tmp_path / "link.db").symlink_to(tmp_path / "nowhere.db")
    with Store.open(tmp_path / "a.db", clock=clock) as store:
        with pytest.raises(StoreError, match=r"link\.db exists|is no name in UTF-8") as told:
            store.backup(tmp_path / name)
        str(told.value).encode()                                     # it can be printed
        with store.read() as conn:
            assert conn.scalar(select(func.count()).select_from(schema.audit).where(schema.audit.c.action == "backup")) == 0
    assert (tmp_path / "link.db").is_symlink() and not (tmp_path / "nowhere.db").exists()
