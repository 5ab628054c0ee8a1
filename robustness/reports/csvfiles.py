"""CSV files that are safe to open: UTF-8, every field quoted, no cell a spreadsheet would run."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from robustness.reports.columns import COLUMNS, Table

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets read as the start of a formula, full-width forms included."""
GUARD = "'"


def neutralise(text: str) -> str:
    """Puts an apostrophe before what could be a formula, and before an apostrophe, so that it can be undone.

    >>> neutralise("=1+1"), neutralise("fine"), neutralise("'quoted'")
    ("'=1+1", 'fine', "''quoted'")
    """
    return GUARD + text if text.startswith((*FORMULA_STARTS, GUARD)) else text


def restore(cell: str) -> str:
    """Undoes `neutralise`."""
    return cell.removeprefix(GUARD)


def write_table(frame: pd.DataFrame, table: Table, path: Path) -> None:
    """Writes one table in one step."""
    safe = frame.copy()
    for column in COLUMNS[table]:
        if column.is_text:
            cells = safe[column.name].astype("object")
            safe[column.name] = cells.map(lambda cell: neutralise(str(cell)), na_action="ignore")
    draft = path.with_suffix(".csv.part")
    with draft.open("w", encoding="utf-8", newline="") as stream:
        safe.to_csv(stream, index=False, quoting=csv.QUOTE_ALL, float_format="%.6g", lineterminator="\n")
    draft.replace(path)


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
