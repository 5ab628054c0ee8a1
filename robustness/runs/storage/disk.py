"""The disk under a run folder: writes that survive a power failure, and errors of a full disk."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robustness.databases import is_locked
from robustness.errors import RunError
from robustness.paths import FULL
from robustness.runs.storage.lock import describe_holder

STORE = "run.sqlite"
"""The run folder's file of all outcomes."""
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
UNREADABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def replace_durably(path: Path, text: str) -> None:
    """Writes a file atomically: after a crash it is the complete old or new file."""
    draft = path.with_name(f"{path.name}.part")
    with draft.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def explain_failed_writes(out: Path) -> Iterator[None]:
    """Turns a failed write into `out`, by the disk, a lock or a damaged store, into a RunError with a remedy."""
    try:
        yield
    except OSError as error:
        is_ours = error.errno in READ_ONLY and Path(str(error.filename)).is_relative_to(out)
        if error.errno not in FULL and not is_ours:
            raise
        raise _failed(out, str(error), is_full=error.errno in FULL) from error
    except sqlite3.DatabaseError as error:
        if is_locked(error):
            raise explain_lock(out / STORE) from error
        code = (
            getattr(error, "sqlite_errorcode", 0) & 0xFF
        )  # of what the sqlite3 module finds wrong itself there is none
        if code in UNREADABLE:
            raise explain_damage(out / STORE, error) from error
        if code not in UNWRITABLE:
            raise
        is_full = code == sqlite3.SQLITE_FULL
        raise _failed(out, f"{error} ({error.sqlite_errorname})", is_full=is_full) from error


def explain_damage(file: Path, reason: Exception) -> RunError:
    """Returns the error of a store that SQLite cannot read."""
    return RunError(
        f"{file}: not a readable store: {reason}; put a copy of it back, or repeat the command with another --out"
    )


def explain_lock(file: Path) -> RunError:
    """Returns the error that names the holder of a file."""
    return RunError(
        f"{file}: is locked: {describe_holder(file)}; wait for it or end it, then repeat the command: "
        "stored outcomes are intact"
    )


def _failed(out: Path, reason: str, *, is_full: bool) -> RunError:
    what = "the disk is full" if is_full else "cannot be written to"
    remedy = "make space" if is_full else "check the disk, its space and its permissions"
    return RunError(
        f"{out}: {what}: {reason}; outcomes stored before are intact: {remedy}, and the same command resumes"
    )
