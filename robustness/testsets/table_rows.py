"""Turns records of a user's table into rows, with one reader for each form of gold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from robustness.definitions.testsets import TableFile
from robustness.errors import DataError
from robustness.tasks.task import Task
from robustness.testsets.example import Texts
from robustness.testsets.rows import Row, flat_record, label_index, spell_label
from robustness.testsets.soft_labels import SoftLabel, read_soft_label
from robustness.testsets.squad import answer_row

Record = dict[str, Any]
TIED = -1
"""The label of a row whose most frequent labels are equally frequent."""


RecordReader = Callable[[Record, TableFile, Task, str], Row]
"""Makes a row from a record and its name in errors, without key, group and method."""


def read_record(read: RecordReader, record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a record's row with its key: the value of the source's column, or else its number.

    Raises:
        DataError: a missing column, or an invalid cell.
    """
    wanted = named_columns(source)
    record = flat_record(record, wanted)
    for column in wanted:
        if column not in record:
            raise DataError(f"{where}: column {column!r} is missing; there are {', '.join(map(repr, record))}")
    key = str(record[source.id]) if source.id else where.rpartition(" ")[2]
    group = str(record[source.group]) if source.group and record[source.group] is not None else ""
    method = str(record[source.method]) if source.method else ""
    return replace(read(record, source, task, where), key=key, group=group, method=method)


def named_columns(source: TableFile) -> list[str]:
    """Returns all columns that the definition names."""
    named = [*source.columns, *source.original, source.label, source.original_label]
    partner = None if source.partner is None else source.partner.row
    further = (source.answers, source.id, source.group, source.method, source.original_answers, partner)
    return [column for column in (*named, *further) if column is not None]


def read_labelled(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a row with a label, or the most frequent one of a distribution."""
    original = read_original(record, source, where)
    soft = read_soft_label(record[str(source.label)], task, source.labels, where)
    label = _gold(soft, source, task, where) if soft else label_index(_label(record, source), task, where)
    return Row(
        key="",
        texts=read_texts(record, source.columns, where),
        label=label,
        original=original,
        original_label=None if original is None else _original_label(record, source, task, where, label),
        label_entropy=soft.entropy if soft else None,
    )


def read_answered(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a question with its answers and their places; keeps the context's blanks, which fix the places."""
    original = read_original(record, source, where)
    named = {name: record[column] for name, column in zip(task.fields, source.columns, strict=True)}
    row = answer_row(where, "", named, _decoded(record[str(source.answers)], where))
    return replace(row, original=original)


def read_texts(record: Record, columns: tuple[str, ...], where: str) -> Texts:
    """Returns the texts of some columns, without surrounding blanks."""
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


def read_original(record: Record, source: TableFile, where: str) -> Texts | None:
    """Returns the benign texts; None if the source or this row lacks them."""
    if not source.original or any(record[column] in (None, "") for column in source.original):
        return None
    return read_texts(record, source.original, where)


def _label(record: Record, source: TableFile, column: str | None = None) -> object:
    """The label in the task's spelling, if the definition maps the file's."""
    label = record[column or str(source.label)]
    return source.labels.get(spell_label(label), label)


def _gold(soft: SoftLabel, source: TableFile, task: Task, where: str) -> int:
    """The most frequent label, or TIED if the definition leaves such rows out."""
    if soft.label is not None:
        return soft.label
    if source.ties == "leave-out":
        return TIED
    names = " and ".join(task.labels[index] for index in soft.tied)
    raise DataError(f'{where}: the labels {names} are equally frequent; ties = "leave-out" leaves such rows out')


def _original_label(record: Record, source: TableFile, task: Task, where: str, label: int) -> int | None:
    """None without a column for originals; an empty cell means the row's label."""
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
