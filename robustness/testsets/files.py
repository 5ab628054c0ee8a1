"""Reads data files of any origin: text with a marked encoding, JSON, separated fields."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness.errors import DataError
from robustness.pointers import explain_pointer

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
"""First bytes of such files."""
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order marks of editors."""
LONGEST_FIELD = 2**31 - 1
"""Characters; the csv module's own limit is 131,072, less than a book's chapter."""
SEPARATORS = (",", "\t", ";", "|")
LINE_END = re.compile("\r\n|\r|\n")
"""Not Unicode's other line ends, because texts contain them."""

csv.field_size_limit(LONGEST_FIELD)


def read_text(path: Path) -> str:
    """Reads UTF-8 or, by its first bytes, UTF-16; decompresses gzip.

    Raises:
        DataError: no such file, a Git LFS pointer, a broken compressed file, a workbook, or invalid bytes (with their
            line).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if pointer := explain_pointer(path):
        raise DataError(f"{path} {pointer}")
    if content.startswith(GZIP) or path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: a broken compressed file ({error}); get it again") from None
    if content.startswith(ZIP):
        raise DataError(f"{path}: a zip archive, as Excel's workbooks are; unpack it, or save it as CSV in UTF-8")
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding.startswith("utf-8") else "UTF-16, as its first bytes claim"
        raise DataError(f"{path} line {line}: not {name}: {error.reason}; save the file as UTF-8") from None


def _encoding(content: bytes) -> str:
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if content[1:4:2] == b"\0\0":  # every second byte: Latin letters of an editor without a mark
        return "utf-16-le"
    return "utf-16-be" if content[0:3:2] == b"\0\0" else "utf-8"


def read_json(path: Path) -> object:
    """Reads a JSON file; raises as `read_text`, and DataError with the place that is not JSON."""
    text = read_text(path)
    try:
        content: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise not_json(path, text, error) from None
    except (RecursionError, ValueError) as error:  # deeply nested brackets, or a number of thousands of digits
        raise DataError(f"{path}: JSON is too large or too deeply nested: {error}") from None
    return content


def not_json(path: Path, text: str, error: json.JSONDecodeError) -> DataError:
    """Returns the error with the place where a file's text is not JSON."""
    cut = " (the file ends there: was it cut short?)" if error.pos >= len(text.rstrip()) else ""
    return DataError(f"{path}: not JSON: {error}{cut}")


def read_json_records(path: Path) -> list[object]:
    """Reads the rows of a JSON file: a list, a list under `data`, or one object per line.

    The suffix does not decide, because pandas and the hub's tools use either for each form.

    Raises:
        DataError: as `read_json`, an object with a repeated key, or an object that is no list of rows.
    """
    text = read_text(path)

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{path}: an object has the key {key!r} twice, and one would be lost; keep one")
        return record

    if not text.strip():
        return []
    try:
        content: object = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # text after a complete object: JSON Lines
            return list(_json_lines(path, text, once))
        raise not_json(path, text, error) from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: JSON is too large or too deeply nested: {error}") from None
    return _rows_of(path, content)


def _rows_of(path: Path, content: object) -> list[object]:
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
    if isinstance(content, list):
        return content
    if isinstance(content, dict) and path.name.removesuffix(".gz").endswith(".jsonl"):  # of a single line
        return [content]
    got = f"an object with {', '.join(map(repr, content))}" if isinstance(content, dict) else type(content).__name__
    raise DataError(
        f"{path}: expected a JSON list of objects, one for each row; got {got[:200]}; with pandas: "
        'to_json(..., orient="records")'
    )


def _json_lines(path: Path, text: str, hook: Callable[..., Any]) -> Iterator[object]:
    for number, line in enumerate(LINE_END.split(text), start=1):
        if line.strip():
            try:
                yield json.loads(line, object_pairs_hook=hook)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path} line {number}: not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Separated:
    """A file of separated fields: its header, and a reader positioned after it."""

    header: tuple[str, ...]
    rows: Any
    """The csv module's reader, which counts lines."""


def refuse_repeated(path: Path, header: Sequence[str], wanted: Collection[str]) -> None:
    """Raises DataError for a wanted column that appears twice; a reader would take the last."""
    for name in wanted:
        if header.count(name) > 1:
            raise DataError(f"{path}: {header.count(name)} columns are named {name!r}; rename one")


def open_separated(text: str, separator: str, *, quoted: bool, header: Sequence[str] = ()) -> Separated:
    """Reads the header of a text of separated fields; raises csv.Error.

    Args:
        text: the file's text.
        separator: between fields.
        quoted: whether quotes delimit fields; otherwise they are text.
        header: for a text without a header.
    """
    options: dict[str, Any] = {"strict": True} if quoted else {"quoting": csv.QUOTE_NONE}
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, **options)
    return Separated(tuple(header or next(rows, ())), rows)


def find_separator(text: str, usual: str, wanted: Collection[str], *, quoted: bool) -> str:
    """Returns the separator that gives all wanted columns in the header: the usual one or another."""
    for separator in (usual, *SEPARATORS):
        try:
            header = open_separated(text, separator, quoted=quoted).header
        except csv.Error:
            continue
        if set(wanted) <= set(header):
            return separator
    return usual
