"""Turns records with gold texts into rows, from a user's table or the hub."""

from __future__ import annotations

import re
from dataclasses import replace

from robustness.definitions.testsets import HubDataset, TableFile
from robustness.errors import DataError
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task
from robustness.testsets.rows import Row, load_hub, spell_label
from robustness.testsets.squad import RIGHT
from robustness.testsets.table_rows import Record, read_original, read_record, read_texts

ANSWERS = "answer"
"""A hub data set's default column of gold texts."""
ANSWERABLE, UNANSWERABLE = "answerable", "unanswerable"
"""Constructions of the rows of a set in which some questions have no answer."""


def read_completed(record: Record, source: TableFile, task: Task, where: str) -> Row:
    """Returns a text with the continuation that a model should write."""
    del task
    golds = _gold_texts(record[str(source.answers)], f"{where}: column {source.answers!r}")
    original = read_original(record, source, where)
    row = Row("", read_texts(record, source.columns, where), RIGHT, original, answers=golds)
    column = source.original_answers
    if original is not None and column is not None and record[column] not in (None, ""):
        row = replace(row, original_answers=_gold_texts(record[column], f"{where}: column {column!r}"))
    if source.partner is not None:
        row = replace(row, partner=_partner(record[source.partner.row], f"{where}: column {source.partner.row!r}"))
    if source.unanswerable:
        has_none = any(gold.text.strip() in source.unanswerable for gold in golds)
        row = replace(row, construction=UNANSWERABLE if has_none else ANSWERABLE)
    return row


def read_hub_completed(source: HubDataset, task: Task, *, adversarial: bool = False) -> list[Row]:
    """Loads a split from the hub at its pinned revision; rows have originals if there are columns for them.

    Raises:
        DataError: the hub cannot be reached (offline, perhaps), or the data set is not as described.
    """
    del adversarial
    name, records = load_hub(source)
    table = TableFile(
        reader="table",
        file="hub",
        columns=source.columns or task.fields,
        answers=source.answers or ANSWERS,
        method=source.method,
        group=source.group,
        original=source.original,
        original_answers=source.original_answers,
        unanswerable=source.unanswerable,
    )
    return [
        read_record(read_completed, record, table, task, f"{name} row {number}")
        for number, record in enumerate(records, start=1)  # counted as in a file
    ]


def _gold_texts(cell: object, where: str) -> tuple[GoldSpan, ...]:
    """One text or a list of texts, with all blanks, because a model should write exactly these."""
    texts = cell if isinstance(cell, list) else [cell]
    golds = tuple(GoldSpan(text, 0) for text in texts if isinstance(text, str) and text.strip())
    if not golds or len(golds) < len(texts):
        raise DataError(f"{where} is empty or not text; expected a gold text, or a list of them")
    return golds


def _partner(number: object, where: str) -> int:
    spelled = spell_label(number)
    if not re.fullmatch("[0-9]{1,9}", spelled):
        raise DataError(f"{where}: {number!r} is no row of a test set, from 0 on")
    return int(spelled)
