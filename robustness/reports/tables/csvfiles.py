"""CSV files that are safe to open: UTF-8, every field quoted, no cell a spreadsheet would run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from robustness.reports.tables.columns import COLUMNS, Column, Table
from robustness.spreadsheets import FORMULA_STARTS as FORMULA_STARTS
from robustness.spreadsheets import GUARD
from robustness.spreadsheets import neutralise as neutralise
from robustness.spreadsheets import restore as restore

CHUNK = 50_000
"""Rows formatted at a time."""
EXACT = 2**53
"""Below, a float holds every whole number."""
TEXT = pa.large_string()
"""Arrow's texts of which a chunk may hold more than 2 GiB."""


def number_texts(values: Sequence[float] | pd.Index[Any]) -> list[str]:
    """Numbers as they stand in a CSV file: whole numbers whole, others with six significant digits.

    >>> number_texts([2, 1 / 3, 1_234_567, -0.0, float("inf")])
    ['2', '0.333333', '1234567', '0', 'inf']
    """
    numbers = np.asarray(values, dtype=np.float64)
    texts = (" ".join(["%.6g"] * len(numbers)) % tuple(numbers.tolist())).split()
    is_whole = (np.abs(numbers) < EXACT) & (numbers == np.trunc(numbers))
    for place in np.flatnonzero(is_whole & ((np.abs(numbers) >= 1e5) | (numbers == 0))):  # where %g does otherwise
        texts[place] = str(int(numbers[place]))
    return texts


def number_text(value: float) -> str:
    """One number, as `number_texts` has it."""
    return number_texts([value])[0]


def write_table(frame: pd.DataFrame, table: Table, path: Path) -> None:
    """Writes one table in one step."""
    write_columns(frame, COLUMNS[table], path)


def write_columns(frame: pd.DataFrame, columns: Sequence[Column], path: Path) -> None:
    """Writes these columns of a table in one step."""
    draft = path.with_suffix(".csv.part")
    with draft.open("wb") as stream:
        stream.write((",".join(f'"{column.name}"' for column in columns) + "\n").encode())
        for start in range(0, len(frame), CHUNK):
            part = frame.iloc[start : start + CHUNK]
            fields = [_fields(part[column.name], is_text=column.is_text) for column in columns]
            stream.write(_lines(fields))
    draft.replace(path)


def _fields(values: pd.Series[Any], *, is_text: bool) -> pa.LargeStringArray:
    """A column as quoted fields hold it; each distinct value is formatted once."""
    codes, distinct = pd.factorize(values)
    formatted = _guarded(distinct) if is_text else pa.array(number_texts(distinct), TEXT)
    return pc.fill_null(formatted.take(pa.array(codes, mask=codes < 0)), "")


def _guarded(values: pd.Index[Any]) -> pa.LargeStringArray:
    """What `spreadsheets.neutralise` returns for each, with quotes doubled."""
    if isinstance(values.dtype, pd.StringDtype):
        texts = pa.array(values.array).cast(TEXT)
    else:
        texts = pa.array([str(value).encode("utf-8", "replace") for value in values], pa.large_binary()).cast(TEXT)
    starts = pc.is_in(pc.utf8_slice_codeunits(texts, 0, 1), value_set=pa.array([*FORMULA_STARTS, GUARD], TEXT))
    guarded = _joined(pc.if_else(starts, GUARD, "").cast(TEXT), texts)
    return pc.replace_substring(guarded, '"', '""')


def _lines(fields: Sequence[pa.LargeStringArray]) -> pa.Buffer:
    """The rows' UTF-8 bytes, one after the other."""
    parts: list[pa.LargeStringArray | str] = ['"']
    for field in fields:
        parts += [field, '","']
    rows = _joined(*parts[:-1], '"\n')
    return rows.buffers()[2].slice(0, pc.sum(pc.binary_length(rows)).as_py())


def _joined(*parts: pa.LargeStringArray | str) -> pa.LargeStringArray:
    typed = [pa.scalar(part, TEXT) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*typed, pa.scalar("", TEXT))


def read_table(table: Table, path: Path) -> pd.DataFrame:
    """Reads a table back: text as it was before `neutralise`, numbers as numbers, empty cells as missing."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit is less than a book's chapter
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


def read_columns(table: Table, path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Reads some columns of a table back, as `read_table` does; a million rows in seconds.

    Texts are categories: most repeat. Empty cells are missing.
    """
    texts = {column.name: column.is_text for column in COLUMNS[table]}
    types = {name: pa.dictionary(pa.int32(), pa.string()) if texts[name] else pa.float64() for name in names}
    found = arrow_csv.read_csv(
        path,
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(names),
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    frame: pd.DataFrame = found.unify_dictionaries().to_pandas()
    for name in names:
        if texts[name]:
            categories = frame[name].cat.categories
            frame[name] = frame[name].cat.rename_categories({each: restore(each) for each in categories})
    return frame
