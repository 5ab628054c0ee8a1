"""A report of an error that nothing foresaw: one paragraph for the terminal, a file with the traceback."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import traceback
from pathlib import Path

from robustness.errors import first_line
from robustness.versions import version_of

PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = ("peft-robustness", "torch", "transformers", "tokenizers", "peft", "numpy", "pandas")
"""Whose versions the file names."""


def describe_fault(error: BaseException) -> str:
    """Writes the traceback into a file of the temporary folder; returns the paragraph that says where it is.

    Where no file can be written, the traceback follows the paragraph.
    """
    paragraph = f"{type(error).__name__}: {first_line(error)}{_place(error)}: robustness did not expect this"
    content = "".join([_circumstances(), *traceback.format_exception(error)])
    try:
        descriptor, path = tempfile.mkstemp(prefix="robustness-fault-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(content)
    except OSError:
        return f"{paragraph}\n{content}"
    return f"{paragraph}; the traceback is in {path}: please report it with that file"


def _place(error: BaseException) -> str:
    """The last line of this package that was running."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(frame.filename).parents]
    if not frames:
        return ""
    return f" ({Path(frames[-1].filename).relative_to(PACKAGE.parent).as_posix()} line {frames[-1].lineno})"


def _circumstances() -> str:
    lines = [f"command: {shlex.join(sys.argv)}", f"python {platform.python_version()} on {platform.platform()}"]
    return "\n".join([*lines, *(f"{name} {version_of(name)}" for name in PACKAGES), "", ""])
