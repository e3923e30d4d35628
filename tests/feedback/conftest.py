"""The fixture `store`: an empty store with a clock of its own, once on SQLite and once on a real PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.feedback import postgres
from tutelage.feedback import schema
from tutelage.feedback.store import Store


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> float:
        self.seconds += seconds
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def new_postgresql() -> Iterator[Callable[[], str]]:
    """Gives the address of a new, empty PostgreSQL database at each call."""
    bin_folder = postgres.binaries()
    if bin_folder is None:
        pytest.skip("PostgreSQL is not installed (no pg_ctl on the path nor in /usr/lib/postgresql)")
    psycopg = pytest.importorskip("psycopg")
    numbers = itertools.count()
    with postgres.cluster(bin_folder) as address, psycopg.connect(address.format(name="postgres"), autocommit=True) as admin:
        def new() -> str:
            name = f"store_{next(numbers)}"
            admin.execute(f"CREATE DATABASE {name}")
            return address.format(name=name)

        yield new


@pytest.fixture(scope="session")
def migrated_postgresql(new_postgresql) -> str:
    """A database with a store's tables, which each test finds empty."""
    address = new_postgresql()
    Store.open(address).close()
    return address


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory) -> Path:
    """An empty store's file, to copy: it is quicker than to make its tables each time."""
    path = tmp_path_factory.mktemp("store") / "studio.db"
    Store.open(path).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path: Path) -> str:
    """Where an empty store is: a file, or a PostgreSQL database."""
    if request.param == "sqlite":
        return str(shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "studio.db"))
    return emptied(request.getfixturevalue("migrated_postgresql"))


def emptied(address: str) -> str:
    """The same database without a row."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(table.name for table in schema.metadata.sorted_tables)} RESTART IDENTITY CASCADE")
    return address


@pytest.fixture
def store(address: str, clock: Clock) -> Iterator[Store]:
    with Store.open(address, clock=clock) as opened:
        yield opened
