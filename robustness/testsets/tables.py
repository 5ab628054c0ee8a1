"""Tables of one's own: CSV, TSV, JSON, JSONL and Parquet files, read into rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustness.definitions.testsets import TableFile
from robustness.errors import DataError, DefinitionError, first_line
from robustness.pointers import explain_pointer
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.testsets.example import Texts
from robustness.testsets.files import find_separator, open_separated, read_json_records, read_text, refuse_repeated
from robustness.testsets.rows import Row, flat_record, label_index, spell_label
from robustness.testsets.soft_labels import SoftLabel, read_soft_label
from robustness.testsets.squad import RIGHT, answer_row

Record = dict[str, Any]
TIED = -1
"""The label of a row whose most frequent labels are equally frequent."""
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


def read_table(path: Path, source: TableFile, task: Task) -> list[Row]:
    """Reads a table whose columns the definition names.

    Raises:
        DataError: a file that cannot be read as what its suffix says, a missing column, a cell that is not text, a
            label that the task does not have; every message names the file and the row.
        DefinitionError: a suffix that is not known, or no column for labels or answers.
    """
    _check(path, source, task)
    rows = []
    wanted = _named_columns(source)
    for where, record in _records(path, wanted):
        record = flat_record(record, wanted)
        _refuse_missing(where, record, wanted)
        key = str(record[source.id]) if source.id else where.rpartition(" ")[2]
        group = str(record[source.group]) if source.group and record[source.group] is not None else ""
        original = _original(record, source, where)
        if task.kind is TaskKind.SPAN:  # a stripped context would move the answers
            named = {name: record[column] for name, column in zip(task.fields, source.columns, strict=True)}
            row = answer_row(where, key, named, _decoded(record[str(source.answers)], where))
        elif task.kind is TaskKind.TEXT:
            golds = _gold_texts(record[str(source.answers)], f"{where}: column {source.answers!r}")
            row = Row(key, _texts(record, source.columns, where), RIGHT, answers=golds)
        else:
            soft = read_soft_label(record[str(source.label)], task, source.labels, where)
            label = _gold(soft, source, task, where) if soft else label_index(_label(record, source), task, where)
            entropy = soft.entropy if soft else None
            row = Row(key, _texts(record, source.columns, where), label, label_entropy=entropy)
            if original is not None:
                row = replace(row, original_label=_original_label(record, source, task, where, label))
        method = str(record[source.method]) if source.method else ""
        rows.append(replace(row, original=original, group=group, method=method))
    return rows


def _check(path: Path, source: TableFile, task: Task) -> None:
    if _format(path) not in FORMATS:
        raise DefinitionError(f"{path}: a table's file ends in {', '.join(FORMATS)} (.gz may follow)")
    wanted = "label" if task.kind is TaskKind.LABELS else "answers"
    if getattr(source, wanted) is None:
        raise DefinitionError(f'{path}: the definition names no column for {wanted}; add {wanted} = "..."')
    if source.original and len(source.original) != len(source.columns):
        raise DefinitionError(f"{path}: original names {len(source.original)} columns, columns {len(source.columns)}")
    if source.original_label is not None and (task.kind is not TaskKind.LABELS or not source.original):
        raise DefinitionError(
            f"{path}: original_label names the column {source.original_label!r}, which only a task with labels has, "
            "beside original; take it out, or name the columns with the benign texts"
        )


def _format(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _records(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Record]]:
    """Where and content of every row, counted from 1 without the header."""
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
    """Rows of a quoted file; the separator is that by which its header has the wanted columns."""
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


def _named_columns(source: TableFile) -> list[str]:
    """All columns that the definition names."""
    named = [*source.columns, *source.original, source.label, source.original_label]
    further = (source.answers, source.id, source.group, source.method)
    return [column for column in (*named, *further) if column is not None]


def _refuse_missing(where: str, record: Record, wanted: Collection[str]) -> None:
    for column in wanted:
        if column not in record:
            raise DataError(f"{where}: column {column!r} is missing; there are {', '.join(map(repr, record))}")


def _texts(record: Record, columns: tuple[str, ...], where: str) -> Texts:
    texts = []
    for column in columns:
        text = record[column]
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: column {column!r} is empty or not text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{where}: column {column!r} holds half a character (a lone surrogate)") from None
        texts.append(text.strip())
    return tuple(texts)


def _gold_texts(cell: object, where: str) -> tuple[GoldSpan, ...]:
    """One text or a list of them, to the last blank: they are what a model is to go on with."""
    texts = cell if isinstance(cell, list) else [cell]
    golds = tuple(GoldSpan(text, 0) for text in texts if isinstance(text, str) and text.strip())
    if not golds or len(golds) < len(texts):
        raise DataError(f"{where} is empty or not text; expected a gold text, or a list of them")
    return golds


def _original(record: Record, source: TableFile, where: str) -> Texts | None:
    if not source.original or any(record[column] in (None, "") for column in source.original):
        return None
    return _texts(record, source.original, where)


def _label(record: Record, source: TableFile, column: str | None = None) -> object:
    """In the task's words, where the definition maps the file's own."""
    label = record[column or str(source.label)]
    return source.labels.get(spell_label(label), label)


def _gold(soft: SoftLabel, source: TableFile, task: Task, where: str) -> int:
    """The most frequent label, or TIED where the definition leaves such rows out."""
    if soft.label is not None:
        return soft.label
    if source.ties == "leave-out":
        return TIED
    names = " and ".join(task.labels[index] for index in soft.tied)
    raise DataError(f'{where}: the labels {names} are equally frequent; ties = "leave-out" leaves such rows out')


def _original_label(record: Record, source: TableFile, task: Task, where: str, label: int) -> int | None:
    """None where nothing is said of originals; an empty cell says that this one has its row's label."""
    if source.original_label is None:
        return None
    if record[source.original_label] in (None, ""):
        return label
    return label_index(_label(record, source, source.original_label), task, f"{where}: {source.original_label}")


def _decoded(answers: object, where: str) -> object:
    """A cell of a CSV file holds the answers as JSON."""
    if not isinstance(answers, str):
        return answers
    try:
        decoded: object = json.loads(answers)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: the answers are not JSON: {error}") from None
    return decoded
