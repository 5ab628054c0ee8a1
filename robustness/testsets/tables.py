"""Reads users' tables into rows: CSV, TSV, JSON, JSONL and Parquet files."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from robustness.definitions.testsets import TableFile
from robustness.errors import DataError, DefinitionError, first_line
from robustness.pointers import explain_pointer
from robustness.tasks.task import Task
from robustness.testsets.files import find_separator, open_separated, read_json_records, read_text, refuse_repeated
from robustness.testsets.row_forms import ROW_FORMS
from robustness.testsets.rows import Row
from robustness.testsets.table_rows import Record, named_columns, read_record

FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def read_table(path: Path, source: TableFile, task: Task) -> list[Row]:
    """Reads a table whose columns the definition names.

    Raises:
        DataError: an unreadable file for its suffix, a missing column, a cell that is not text, or an unknown label.
            Every message names the file and the row.
        DefinitionError: an unknown suffix, or no column for labels or answers.
    """
    _check(path, source, task)
    read = ROW_FORMS[task.kind].read
    records = _records(path, named_columns(source))
    return [read_record(read, record, source, task, where) for where, record in records]


def _check(path: Path, source: TableFile, task: Task) -> None:
    if _format(path) not in FORMATS:
        raise DefinitionError(f"{path}: a table's file ends in {', '.join(FORMATS)} (.gz may follow)")
    wanted = task.kind.traits.gold_column
    if getattr(source, wanted) is None:
        raise DefinitionError(f'{path}: the definition names no column for {wanted}; add {wanted} = "..."')
    gold = getattr(source, wanted)
    if gold in source.columns:
        raise DefinitionError(
            f"{path}: columns names {gold!r}, which {wanted} names too: a model would read the gold; "
            "leave it out of columns"
        )
    if source.original and len(source.original) != len(source.columns):
        raise DefinitionError(f"{path}: original names {len(source.original)} columns, columns {len(source.columns)}")
    if source.original_label is not None and (not task.labels or not source.original):
        raise DefinitionError(
            f"{path}: original_label names the column {source.original_label!r}, which only a task with labels has, "
            "beside original; take it out, or name the columns with the benign texts"
        )
    for name in ("original_answers", "partner", "unanswerable"):
        if getattr(source, name) and task.answer is None:
            raise DefinitionError(f"{path}: {name} is of text tasks; take it out")
    if source.original_answers is not None and not source.original:
        raise DefinitionError(f"{path}: original_answers names a column, original none; name those of the texts")
    if source.partner is not None and source.original:
        raise DefinitionError(f"{path}: original and partner both say what a row was made from; keep one")


def _format(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _records(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Record]]:
    """Place and content of every row, counted from 1 without the header."""
    kind = _format(path)
    if kind == ".parquet":
        records: Iterator[object] = iter(_parquet(path, wanted))
    elif kind in (".json", ".jsonl"):
        records = iter(read_json_records(path))
    else:
        records = _separated(path, "," if kind == ".csv" else "\t", wanted)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path} row {number}: expected an object with columns; got {type(record).__name__}")
        yield f"{path} row {number}", record


def _parquet(path: Path, wanted: Collection[str]) -> list[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        refuse_repeated(path, pyarrow.parquet.read_schema(path).names, wanted)
        records: list[Record] = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        if pointer := explain_pointer(path):
            raise DataError(f"{path} {pointer}") from None
        raise DataError(f"{path}: not a readable Parquet file: {first_line(error)}") from None
    return records


def _separated(path: Path, usual: str, wanted: Collection[str]) -> Iterator[Record]:
    """Rows of a quoted file; its header's columns determine the separator."""
    text = read_text(path)
    number = 0
    try:
        file = open_separated(text, find_separator(text, usual, wanted, quoted=True), quoted=True)
        refuse_repeated(path, file.header, wanted)
        for number, fields in enumerate(filter(None, file.rows), start=1):
            if len(fields) != len(file.header):
                raise DataError(
                    f"{path} row {number}: another number of fields than the header has ({len(fields)}, not "
                    f"{len(file.header)}); a text that holds the separator stands in quotes"
                )
            yield dict(zip(file.header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} row {number + 1}: {_explain(error)}") from None


def _explain(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "its quote is never closed: a quote within a text is written twice; or was the file cut short?"
    return f"{error}; a text that holds a quote stands in quotes, and its own are written twice"
