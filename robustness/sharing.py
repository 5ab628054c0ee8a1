"""Lets several processes write into one folder: each its own draft, one at a time a shared file."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF})
"""Codes of errors of file systems without locks; NFS locks no folder, because none is open for writing."""
TOKEN_BYTES = 4
WAIT_SECONDS = 0.05
"""Interval at which a held path is tried again."""


def name_draft(path: Path) -> Path:
    """Returns a path that no other process takes, beside the path that it is renamed to once complete."""
    return path.with_name(f"{path.name}.{secrets.token_hex(TOKEN_BYTES)}.part")


def find_drafts(path: Path) -> list[Path]:
    """Returns all drafts of a path, such as those of killed processes."""
    form = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.part")
    return [each for each in path.parent.glob("*.part") if form.fullmatch(each.name)]


@contextmanager
def hold(path: Path, patience: float | None = None) -> Iterator[None]:
    """Waits until no other process holds a path, then holds it; the file of the lock stays beside it, in its folder.

    The operating system releases the lock of a killed process. On a file system without locks nothing waits.

    Args:
        path: What is held; by one `with` of a process at a time.
        patience: Seconds after which nothing is held and nothing waits, for a holder may be stopped; None: no limit.
    """
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if patience is None:
            _lock(descriptor, fcntl.LOCK_EX)
        else:
            _wait(descriptor, patience)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def join(folder: Path) -> Iterator[Callable[[], bool]]:
    """Uses a folder, which it creates, together with other processes; yields what tells whether no other uses it.

    Once told so, it holds the folder alone, and may remove it. On a file system without locks no other is seen.
    """
    descriptor = _enter(folder)

    def is_alone() -> bool:
        if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        _lock(descriptor, fcntl.LOCK_SH)  # which the attempt has given up
        return False

    try:
        yield is_alone
    finally:
        os.close(descriptor)


def _enter(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # removed since by the last of its users
            descriptor = os.open(folder, os.O_RDONLY)
            _lock(descriptor, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    return descriptor
            os.close(descriptor)


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _wait(descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and time.monotonic() < deadline:
        time.sleep(WAIT_SECONDS)
