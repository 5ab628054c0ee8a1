"""Lets several processes write into one folder: each its own draft, one at a time a shared file."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS})
"""Codes of errors of file systems without locks."""
TOKEN_BYTES = 4


def name_draft(path: Path) -> Path:
    """Returns a path that no other process takes, beside the path that it is renamed to once complete."""
    return path.with_name(f"{path.name}.{secrets.token_hex(TOKEN_BYTES)}.part")


def find_drafts(path: Path) -> list[Path]:
    """Returns all drafts of a path, such as those of killed processes."""
    form = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.part")
    return [each for each in path.parent.glob("*.part") if form.fullmatch(each.name)]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Waits until no other process holds a path, then holds it; the file of the lock stays beside it, in its folder.

    The operating system releases the lock of a killed process. On a file system without locks nothing waits.
    """
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
