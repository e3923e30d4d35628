"""The database's history: what migrations make is what the tables say, and what comes from elsewhere is refused."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, select

from tests.feedback import few
from tests.feedback.world import comparisons, labelers
from tutelage.feedback import migrations, schema
from tutelage.feedback.content import set_setting
from tutelage.feedback.errors import StoreError
from tutelage.feedback.location import APPLICATION_ID, locate
from tutelage.feedback.store import Store

LATEST = ScriptDirectory.from_config(migrations.config()).get_current_head()
NEXT = f"""
from alembic import op
import sqlalchemy as sa
revision, down_revision = "next", "{LATEST}"
def upgrade():
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("mood", sa.Text, server_default="calm"))
        table.alter_column("batch", new_column_name="bunch")
"""


@pytest.fixture
def later(tmp_path, monkeypatch):
    """Makes this version one that has one more revision."""
    folder = shutil.copytree(migrations.FOLDER, tmp_path / "later")
    (folder / "versions" / "next_mood.py").write_text(NEXT)
    return lambda: monkeypatch.setattr(migrations, "FOLDER", folder)


def described(conn) -> set[str]:
    """Every table, column, constraint and index as the database itself tells it."""
    if conn.dialect.name == "sqlite":
        made = conn.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'").all()
        return {f"{name}: {' '.join(part.split()).strip(' ,)')}" for name, sql in made for part in re.split(r"\n|, ", sql)}
    columns = conn.exec_driver_sql("SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default "
                                   "FROM information_schema.columns WHERE table_schema = 'public'").all()
    constraints = conn.exec_driver_sql("SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                                       "WHERE connamespace = 'public'::regnamespace").all()
    indexes = conn.exec_driver_sql("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'").all()
    return {str(tuple(row)) for row in (*columns, *constraints, *indexes) if row[0] != "alembic_version"}


def test_migrations_make_the_tables_of_the_schema(store, request, tmp_path):
    sqlite = store.url.get_backend_name() == "sqlite"
    plain = locate(tmp_path / "plain.db" if sqlite else request.getfixturevalue("new_postgresql")())
    engine = create_engine(plain)
    with engine.begin() as conn:
        schema.metadata.create_all(conn)
        expected = described(conn)
    engine.dispose()
    with store.read() as conn:
        assert described(conn) == expected and len(expected) > 150
        assert compare_metadata(MigrationContext.configure(conn), schema.metadata) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request, tmp_path) -> str:
    """Where a database is that may be changed for good."""
    return str(tmp_path / "old.db") if request.param == "sqlite" else request.getfixturevalue("new_postgresql")()


def test_an_older_database_is_brought_forward_with_its_rows(old, clock, later):
    with Store.open(old, clock=clock) as store:
        labelers(store, 2)
        comparisons(store, 3, batch="first", overlap=2)
        with store.read() as conn:
            before = conn.execute(select(schema.tasks.c.id, schema.tasks.c.batch)).all()
    later()
    with Store.open(old, clock=clock) as store, store.read() as conn:
        assert migrations.version(conn) == "next"
        after = conn.exec_driver_sql("SELECT id, bunch, mood FROM tasks ORDER BY id").all()
        assert [row[:2] for row in after] == before and {row[2] for row in after} == {"calm"}
        assert conn.exec_driver_sql("SELECT count(*) FROM labelers").scalar() == 2


def test_open_assignments_of_an_older_database_get_the_guidelines_they_were_given_under_where_that_is_known(old, clock):
    engine = create_engine(locate(old))
    with engine.begin() as conn:
        if conn.dialect.name == "sqlite":
            conn.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        command.upgrade(migrations.config(conn), "0002")
        who = few.labeler(conn, "ann")
        set_setting(conn, "guidelines", {"version": "4", "text": "Be kind.", "at": 100.0})
        for number, (state, at) in enumerate((("reserved", 100.0), ("reserved", 99.0), ("expired", 101.0), ("submitted", 101.0))):
            asked = few.task(conn, few.prompt(conn, f"question {number}"), ["a", "b"])
            conn.execute(insert(schema.assignments).values(task_id=asked, labeler_id=who, state=state, claimed_at=at, expires_at=at + 9))
    engine.dispose()
    with Store.open(old, clock=clock) as store, store.read() as conn:
        found = conn.scalars(select(schema.assignments.c.guideline_version).order_by(schema.assignments.c.id)).all()
    assert found == ["4", None, "4", None]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(old, clock, later, monkeypatch):
    with monkeypatch.context():
        later()
        Store.open(old, clock=clock).close()
        monkeypatch.undo()
    with pytest.raises(StoreError, match=f"revision next and this version of tutelage knows none after {LATEST}") as error:
        Store.open(old, clock=clock)
    assert "\n" not in str(error.value) and "upgrade" in error.value.hint
    later()
    Store.open(old, clock=clock).close()


def test_two_that_open_a_new_database_at_once_both_find_it_whole(tmp_path, new_postgresql):
    from concurrent.futures import ThreadPoolExecutor

    for address in (str(tmp_path / "new" / "studio.db"), new_postgresql()):
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(Store.open, [address] * 4))
        for number, store in enumerate(stores):
            labelers(store, number + 1)
            store.close()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["studio.db"]    # nothing half-made is left beside it


@pytest.mark.parametrize(("content", "told"), [
    (b"", "is empty"), (b"SQLite", "is not a SQLite database"), (b"PK\x03\x04" + bytes(200), "is not a SQLite database"),
])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content, told):
    path = tmp_path / "studio.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=told) as error:
        Store.open(path)
    assert "\n" not in str(error.value) and error.value.hint
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == ["studio.db"]


def test_another_programs_database_is_refused_and_left_alone(tmp_path, new_postgresql):
    path = tmp_path / "bookmarks.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store.open(path)
    assert path.read_bytes() == before
    other = new_postgresql()
    engine = create_engine(locate(other))
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreError, match=r"other tables \(bookmarks"):
        Store.open(other)
    with engine.begin() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'").scalar() == 1
    engine.dispose()


def test_a_damaged_database_is_refused(tmp_path):
    path = tmp_path / "studio.db"
    Store.open(path).close()
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)


def test_migrations_are_in_the_package_with_what_alembic_needs():
    assert {"env.py", "script.py.mako", "versions"} <= {path.name for path in Path(migrations.__file__).parent.iterdir()}
