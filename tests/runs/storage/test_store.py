"""A store is created whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from robustness.errors import RunError
from robustness.runs.storage import store
from robustness.runs.storage.store import SCHEMA_VERSION, Store, read_outcomes

TABLES = {"outcomes", "replays", "truncated"}


class Dying(sqlite3.Connection):
    """A connection whose process dies before one of its statements."""

    left = 0

    def execute(self, *given: Any) -> sqlite3.Cursor:
        if Dying.left == 0:
            raise InterruptedError
        Dying.left -= 1
        return super().execute(*given)


def test_a_process_that_dies_while_it_creates_a_store_leaves_no_version_without_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = 0
    while True:
        folder = tmp_path / f"{died}"
        folder.mkdir()
        (folder / "run.json").touch()
        with monkeypatch.context() as patch:
            connection = sqlite3.connect(folder / "run.sqlite", factory=Dying, isolation_level=None)
            patch.setattr(store.sqlite3, "connect", lambda *_, made=connection, **__: made)
            Dying.left = died
            try:
                Store(folder)
            except InterruptedError:
                died += 1
            else:
                break
            finally:
                connection.close()

        with closing(sqlite3.connect(folder / "run.sqlite")) as plain:
            version = plain.execute("PRAGMA user_version").fetchone()[0]
            tables = {name for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
        assert (version, tables) in [(0, set()), (SCHEMA_VERSION, TABLES)]
        if not tables:
            with pytest.raises(RunError, match="the run has no outcome yet"):
                read_outcomes(folder)
        Store(folder).close()
        assert read_outcomes(folder).empty

    assert died > len(TABLES)
