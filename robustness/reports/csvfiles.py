"""CSV files that are safe to open: UTF-8, every field quoted, no cell a spreadsheet would run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.reports.columns import COLUMNS, Table

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets read as the start of a formula, full-width forms included."""
GUARD = "'"
CHUNK = 50_000
"""Rows formatted at a time."""
EXACT = 2**53
"""Below, a float holds every whole number."""


def neutralise(text: str) -> str:
    """Puts an apostrophe before what could be a formula, and before an apostrophe, so that it can be undone.

    >>> neutralise("=1+1"), neutralise("fine"), neutralise("'quoted'")
    ("'=1+1", 'fine', "''quoted'")
    """
    return GUARD + text if text.startswith((*FORMULA_STARTS, GUARD)) else text


def restore(cell: str) -> str:
    """Undoes `neutralise`."""
    return cell.removeprefix(GUARD)


def number_text(value: float) -> str:
    """A number as it stands in a CSV file: whole numbers whole, others with six significant digits.

    >>> number_text(2.0), number_text(1 / 3), number_text(1_234_567)
    ('2', '0.333333', '1234567')
    """
    if abs(value) < EXACT and value == int(value):
        return str(int(value))
    return f"{value:.6g}"


def write_table(frame: pd.DataFrame, table: Table, path: Path) -> None:
    """Writes one table in one step."""
    draft = path.with_suffix(".csv.part")
    with draft.open("w", encoding="utf-8", newline="", errors="replace") as stream:
        stream.write(",".join(f'"{column.name}"' for column in COLUMNS[table]) + "\n")
        for start in range(0, len(frame), CHUNK):
            part = frame.iloc[start : start + CHUNK]
            cells = [_cells(part[column.name], is_text=column.is_text) for column in COLUMNS[table]]
            stream.writelines('"' + '","'.join(row) + '"\n' for row in zip(*cells, strict=True))
    draft.replace(path)


def _cells(values: pd.Series[Any], *, is_text: bool) -> list[str]:
    """A column as quoted fields hold it; each distinct value is formatted once."""
    codes, distinct = pd.factorize(values)
    if is_text:
        texts = [neutralise(str(value)).replace('"', '""') for value in distinct]
    else:
        texts = [number_text(value) for value in distinct]
    texts.append("")  # code -1: missing
    return [texts[code] for code in codes.tolist()]


def read_table(table: Table, path: Path) -> pd.DataFrame:
    """Reads a table back: text as it was before `neutralise`, numbers as numbers, empty cells as missing."""
    with path.open(encoding="utf-8", newline="") as stream:
        records = list(csv.DictReader(stream))
    frame = pd.DataFrame(records, columns=[column.name for column in COLUMNS[table]], dtype="object")
    for column in COLUMNS[table]:
        cells = frame[column.name]
        if column.is_text:
            frame[column.name] = cells.map(restore).where(cells != "", None)
        else:
            frame[column.name] = pd.to_numeric(cells.where(cells != "", None))
    return frame
