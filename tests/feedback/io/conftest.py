"""Stores to import into."""

from __future__ import annotations

import itertools

import pytest

from tutelage.feedback.store import Store


@pytest.fixture
def fresh(tmp_path, migrated_sqlite):
    """A new, empty store at each call."""
    numbers = itertools.count()
    opened: list[Store] = []

    def new() -> Store:
        path = tmp_path / f"{next(numbers)}.db"
        path.write_bytes(migrated_sqlite.read_bytes())
        opened.append(Store.open(path, clock=lambda: 2e9))
        return opened[-1]

    yield new
    for store in opened:
        store.close()
