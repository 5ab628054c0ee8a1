from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from robustness.databases import use_write_ahead_log
from robustness.runs.storage.store import FILE_NAME, Store

HELD = 0.2
"""Seconds for which the other program keeps the file."""


def connect(path: Path, seconds: float = 20.0) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=seconds, check_same_thread=False)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A program that makes the file, its log not yet turned on, and writes to it at this moment."""
    with closing(connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE other (x)")
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def journal(path: Path) -> str:
    with closing(connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_the_log_is_turned_on_when_who_writes_lets_go_of_the_file(tmp_path: Path, other: sqlite3.Connection) -> None:
    threading.Timer(HELD, other.execute, ("COMMIT",)).start()

    with closing(connect(tmp_path / FILE_NAME)) as connection:
        use_write_ahead_log(connection)

    assert journal(tmp_path / FILE_NAME) == "wal"


def test_a_run_that_opens_its_store_while_another_program_writes_to_it_waits(
    tmp_path: Path, other: sqlite3.Connection
) -> None:
    threading.Timer(HELD, other.execute, ("COMMIT",)).start()

    Store(tmp_path).close()

    assert journal(tmp_path / FILE_NAME) == "wal"


def test_a_file_that_stays_locked_is_waited_for_as_long_as_the_connection_waits(
    tmp_path: Path, other: sqlite3.Connection
) -> None:
    with closing(connect(tmp_path / FILE_NAME, HELD)) as connection:
        started = time.monotonic()

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            use_write_ahead_log(connection)

    assert HELD <= time.monotonic() - started < 10 * HELD


def test_what_is_no_lock_is_not_waited_for(tmp_path: Path) -> None:
    connect(tmp_path / FILE_NAME).execute("CREATE TABLE other (x)").connection.close()
    uri = f"{(tmp_path / FILE_NAME).as_uri()}?mode=ro"

    with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
        started = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            use_write_ahead_log(connection)

    assert time.monotonic() - started < 5
