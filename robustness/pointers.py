"""Git LFS's pointers: the few lines that Git leaves in the place of a large file that was not fetched."""

from __future__ import annotations

from pathlib import Path

BEGINNING = b"version https://git-lfs"


def explain_pointer(path: Path) -> str:
    """Says that a file is a pointer and how to get the file itself; empty where it is none, or not there.

    Returns:
        Words that follow the file's name.
    """
    try:
        with path.open("rb") as opened:
            is_pointer = opened.read(len(BEGINNING)) == BEGINNING
    except (OSError, ValueError):
        return ""
    return f"is Git LFS's pointer to the file, not the file: run git lfs pull in {path.parent}" if is_pointer else ""
