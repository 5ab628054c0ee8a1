"""The text of a data file, plain or compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

from robustness.errors import DataError


def read_text(path: Path) -> str:
    """Reads UTF-8, decompressing where the name ends in .gz.

    Raises:
        DataError: no such file, a compressed file that is broken, or bytes that are not UTF-8 (with their line).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: a broken compressed file ({error}); get it again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {line}: not UTF-8: {error.reason}; save the file as UTF-8") from None


def read_json(path: Path) -> object:
    """Reads a JSON file; raises what `read_text` does, and DataError with the place where it is not JSON."""
    text = read_text(path)
    try:
        content: object = json.loads(text)
    except json.JSONDecodeError as error:
        cut = " (the file ends there: was it cut short?)" if error.pos >= len(text.rstrip()) else ""
        raise DataError(f"{path}: not JSON: {error}{cut}") from None
    except (RecursionError, ValueError) as error:  # brackets in brackets, or a number of thousands of digits
        raise DataError(f"{path}: JSON that cannot be held: {error}") from None
    return content
