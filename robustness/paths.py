"""Paths that a user gives: spelled out, and found writable before anything is computed."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

from robustness.errors import UsageError, shorten

DATA_VARIABLE = "ROBUSTNESS_DATA"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Codes of errors of a disk without space."""
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand(path: str | Path, folder: Path = Path()) -> str:
    """Returns a path with its `~` and `$NAME` expanded, as a shell does.

    A shell does not expand them in quotes, after `--out=`, or in a file. An existing path with the literal name takes
    precedence.

    Args:
        path: what a user gave.
        folder: what a relative path is relative to.

    Raises:
        UsageError: the variable is not set, there is no such user, or no file can have such a name.
    """
    text = str(path)
    if not os.path.lexists(folder / text):
        text = _spell_out(text)
    try:
        os.lstat(folder / text)
    except ValueError as error:  # a null character
        raise UsageError(f"{text!r}: {error}; give a path without it") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # which many a later question about the path would raise
            raise UsageError(
                f"{text[:40]}...: {error.strerror}: {len(text)} characters; give a shorter one"
            ) from None
    return text


def _spell_out(text: str) -> str:
    text = _VARIABLE.sub(lambda match: _value(match, text), text)
    if not text.startswith("~"):
        return text
    home = os.path.expanduser(text)  # noqa: PTH111 - pathlib's own raises for a user who is not known
    if home == text:
        raise UsageError(
            f"{shorten(text)}: whose home {shorten(text.partition('/')[0])} is, is not known; write the path out"
        )
    return home


def _value(match: re.Match[str], text: str) -> str:
    name = match[1] or match[2]
    if name not in os.environ:
        raise UsageError(f"{text}: the variable {name} is not set; set it, or write the path out")
    return os.environ[name]


def refuse_unwritable(folder: Path, option: str = "--out") -> None:
    """Finds out whether a folder, which need not be there yet, can be made and written to; leaves no trace.

    Raises:
        UsageError: it is or lies below a file or a broken link, or the disk refuses.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir():
        what = "is a link to nothing" if there.is_symlink() and not there.exists() else "is a file, not a folder"
        raise UsageError(f"{option} {folder}: {there} {what}; give {option} another folder")
    try:
        with tempfile.TemporaryFile(dir=there):  # the one sure way: root is allowed everything, a disk not
            pass
    except OSError as error:
        raise UsageError(
            f"{option} {folder}: nothing can be written to {there}: {error.strerror}; give {option} another folder"
        ) from None


def find_data(data: str | Path | None) -> Path | None:
    """Returns the data folder: the argument, else ROBUSTNESS_DATA; raises UsageError when it is not there."""
    given = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not given:
        return None
    folder = Path(expand(given))
    if not folder.is_dir():
        source = f"--data {folder}" if data is not None else f"the variable {DATA_VARIABLE} is {folder}"
        found = "a file" if folder.exists() else "no such folder"
        raise UsageError(
            f"{source}: {found}; expected a folder with local data files, such as glue/SST-2/dev.tsv; give its path, "
            f"or {without_data()} for the hub"
        )
    return folder


def without_data() -> str:
    """What to do so that no folder is looked into: where the variable is set, leaving --data out is not enough."""
    return f"unset {DATA_VARIABLE} and leave --data out" if os.environ.get(DATA_VARIABLE) else "leave --data out"
