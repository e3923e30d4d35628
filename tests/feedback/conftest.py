"""The fixture `store`: an empty store with a clock of its own, once on SQLite and once on a real PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.feedback import postgres
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


_numbers = itertools.count()


@pytest.fixture(scope="session")
def new_postgresql() -> Iterator[Callable[[], str]]:
    """Gives the address of a new, empty PostgreSQL database at each call."""
    bin_folder = postgres.binaries()
    if bin_folder is None:
        pytest.skip("PostgreSQL is not installed (no pg_ctl on the path nor in /usr/lib/postgresql)")
    psycopg = pytest.importorskip("psycopg")
    with postgres.cluster(bin_folder) as address, psycopg.connect(address.format(name="postgres"), autocommit=True) as admin:
        def new(template: str = "template0") -> str:
            name = f"store_{next(_numbers)}"
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            return address.format(name=name)

        Store.open(template := new()).close()                       # migrated once; the tests' databases are copies of it
        new.migrated = template.split("?")[0].rpartition("/")[2]    # type: ignore[attr-defined]
        yield new


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory) -> Path:
    """An empty store's file, to copy: it is quicker than to make its tables each time."""
    path = tmp_path_factory.mktemp("store") / "studio.db"
    Store.open(path).close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path: Path, migrated_sqlite: Path) -> str:
    """Where an empty store is: a file, or a PostgreSQL database."""
    if request.param == "sqlite":
        return str(shutil.copy(migrated_sqlite, tmp_path / "studio.db"))
    new = request.getfixturevalue("new_postgresql")
    return new(new.migrated)


@pytest.fixture
def store(address: str, clock: Clock) -> Iterator[Store]:
    with Store.open(address, clock=clock) as opened:
        yield opened
