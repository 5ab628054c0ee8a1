"""Records of a table of one's own to rows, one reader for each way of saying what is right."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from robustness.definitions.testsets import TableFile
from robustness.errors import DataError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.example import Texts
from robustness.testsets.rows import Row, label_index, spell_label
from robustness.testsets.soft_labels import SoftLabel, read_soft_label
from robustness.testsets.squad import RIGHT, answer_row

Record = dict[str, Any]
TIED = -1
"""The label of a row whose most frequent labels are equally frequent."""


def read_labelled(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a row with a label, or the most frequent one of a distribution."""
    original = _original(record, source, where)
    soft = read_soft_label(record[str(source.label)], task, source.labels, where)
    label = _gold(soft, source, task, where) if soft else label_index(_label(record, source), task, where)
    return Row(
        key="",
        texts=_texts(record, source.columns, where),
        label=label,
        original=original,
        original_label=None if original is None else _original_label(record, source, task, where, label),
        label_entropy=soft.entropy if soft else None,
    )


def read_answered(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a question with its answers and their places, which a stripped context would move."""
    original = _original(record, source, where)
    named = {name: record[column] for name, column in zip(task.fields, source.columns, strict=True)}
    row = answer_row(where, "", named, _decoded(record[str(source.answers)], where))
    return replace(row, original=original)


def read_completed(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a text with what a model is to go on with."""
    del task
    original = _original(record, source, where)
    golds = _gold_texts(record[str(source.answers)], f"{where}: column {source.answers!r}")
    return Row("", _texts(record, source.columns, where), RIGHT, original, answers=golds)


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
