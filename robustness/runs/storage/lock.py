"""The lock of a run folder: one process writes; a second gets the first one's name."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from robustness.definitions.model import Definition
from robustness.errors import RunError
from robustness.sharing import NO_LOCKS

FILE_NAME = "run.lock"


class LockHolder(Definition):
    """The content of the file: who writes into the folder."""

    pid: int
    host: str
    since: str
    """In UTC, to the second."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since},"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this host; of a process elsewhere nobody here knows whether it has been killed."""
        return self.host == socket.gethostname()


@contextmanager
def hold_lock(out: Path) -> Iterator[None]:
    """Makes this process the only writer of a folder that exists.

    The operating system releases the lock at the end of the process in every case. A killed run leaves a file, which
    the next run takes over.

    Raises:
        RunError: another process holds it; the message names its pid and host.
    """
    path = out / FILE_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path)
        os.ftruncate(descriptor, 0)
        mine = LockHolder(
            pid=os.getpid(), host=socket.gethostname(), since=datetime.now(UTC).isoformat(timespec="seconds")
        )
        os.pwrite(descriptor, mine.model_dump_json().encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)  # clears the name, for file systems without locks
    finally:
        os.close(descriptor)


def find_holder(out: Path) -> LockHolder | None:
    """Returns the process that runs in a folder, by its file; None for nobody and for this process.

    A killed run leaves only its name and counts as nobody, unless it ran on another host.
    """
    try:
        descriptor = os.open(out / FILE_NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        holder = _read(descriptor)
    finally:
        os.close(descriptor)
    return None if holder is None or _is_dead(holder) else holder


def describe_progress(out: Path) -> str:
    """Says why a run folder is incomplete: who is running there, as far as that is known, and what to do."""
    holder = find_holder(out)
    if holder is None:
        return "the run was interrupted; the same command resumes"
    if holder.is_here:
        return f"{holder} is still at it"
    return (
        f"{holder} was at it; whether it still is cannot be told from this host: look there; if it has ended, the "
        "same command resumes"
    )


def describe_holder(file: Path) -> str:
    """Names the holder of a locked file in a run folder: the current run, or programs that have the file open."""
    holder = find_holder(file.parent)
    if holder is not None:
        return f"{holder} {'is' if holder.is_here else 'may be'} running there"
    found = list(_find_open(file.resolve()))
    if not found:
        return "another program holds it"
    return f"{' and '.join(found)} {'have' if len(found) > 1 else 'has'} it open"


def _find_open(file: Path) -> Iterator[str]:
    """Other processes of this machine that have a file open, if the system tells (Linux, own processes)."""
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or belongs to another user
            if any(os.readlink(each) == str(file) for each in (process / "fd").iterdir()):  # noqa: PTH115
                yield f"process {process.name} ({(process / 'comm').read_text().strip()})"


def _acquire(descriptor: int, path: Path) -> None:
    holder = _read(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(path, holder, "is") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:  # else the file's content decides
            raise
        if holder is not None and not _is_dead(holder):
            raise _refusal(path, holder, "is" if holder.is_here else "may be") from None


def _refusal(path: Path, holder: LockHolder | None, verb: str) -> RunError:
    who = str(holder) if holder else "another process"
    return RunError(
        f"{path.parent}: {who} {verb} running here; one run folder takes one process. Wait for it, end it, or give "
        f"--out another folder (if that process no longer exists, delete {path})"
    )


def _read(descriptor: int) -> LockHolder | None:
    try:
        return LockHolder.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:  # empty, or torn by a power failure
        return None


def _is_dead(holder: LockHolder) -> bool:
    """Whether a process of this host has ended; False for other hosts."""
    if not holder.is_here:
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return holder.pid == os.getpid()
