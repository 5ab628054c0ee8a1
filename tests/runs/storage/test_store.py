"""A store is created whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from robustness.errors import RunError
from robustness.runs.storage import store
from robustness.runs.storage.disk import explain_failed_writes
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


def _damage_header(file: Path) -> None:
    file.write_bytes(b"not a database" * 100)


def _damage_page(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[100:108] = b"\xff" * 8  # the schema's page begins behind the header of 100 bytes
    file.write_bytes(content)


def _replace_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_damage_header, "not a readable store: file is not a database"),
        (_damage_page, "not a readable store: database disk image is malformed"),
        (_replace_by_folder, "cannot be written to: unable to open database file"),
    ],
)
def test_a_damaged_store_is_refused_on_resume(damage: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    Store(tmp_path).close()
    damage(tmp_path / "run.sqlite")

    with pytest.raises(RunError, match=reason), explain_failed_writes(tmp_path):
        Store(tmp_path)


def test_a_constraint_that_fails_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE one (value UNIQUE)")
        connection.execute("INSERT INTO one VALUES (1)")

        with pytest.raises(sqlite3.IntegrityError), explain_failed_writes(tmp_path):
            connection.execute("INSERT INTO one VALUES (1)")
