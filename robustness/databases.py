"""SQLite files that several processes use at once."""

from __future__ import annotations

import sqlite3
import time

PAUSE = 0.01
"""Seconds between two tries to change a file that another process has open."""


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Turns a file's write-ahead log on, waiting for its lock as long as the connection does for any other.

    SQLite itself does not wait here: the change begins by reading, and no reader is made to wait for a writer, lest
    two of them wait for each other (https://sqlite.org/c3ref/busy_handler.html).

    Raises:
        sqlite3.OperationalError: the file stays locked, or cannot be written.
    """
    (milliseconds,) = connection.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + milliseconds / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE)


def is_locked(error: BaseException | None) -> bool:
    """Whether a file could not be used because another process would not let go of it."""
    code = getattr(error, "sqlite_errorcode", None)  # of what the sqlite3 module finds wrong itself there is none
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
