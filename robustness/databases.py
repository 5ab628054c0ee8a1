"""SQLite files that several processes use at once."""

from __future__ import annotations

import sqlite3

PAUSE = 0.01
"""Seconds between two tries to change a file that another process has open."""


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Turns a file's write-ahead log on, waiting for its lock as long as the connection does for any other.

    SQLite itself does not wait here. The change begins by reading, and a reader never waits for a writer, because two
    of them could wait for each other (https://sqlite.org/c3ref/busy_handler.html).

    Raises:
        sqlite3.OperationalError: the file stays locked, or cannot be written.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    (milliseconds,) = connection.execute("PRAGMA busy_timeout").fetchone()
    stop, pause = stop_after_delay(milliseconds / 1000), wait_fixed(PAUSE)
    retrying = Retrying(stop=stop, wait=pause, retry=retry_if_exception(is_locked), reraise=True)
    retrying(connection.execute, "PRAGMA journal_mode=WAL")


def is_locked(error: BaseException | None) -> bool:
    """Whether a file could not be used because another process would not let go of it."""
    code = getattr(error, "sqlite_errorcode", None)  # of what the sqlite3 module finds wrong itself there is none
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
