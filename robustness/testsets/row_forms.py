"""Row forms: declares once how rows differ by the kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustness.definitions.testsets import HubDataset
from robustness.tasks.gold import GoldSpan
from robustness.tasks.task import Task, TaskKind
from robustness.testsets.example import Texts
from robustness.testsets.gold_places import find_answers, find_slot_values
from robustness.testsets.rows import Row, read_hub
from robustness.testsets.squad import read_squad_hub
from robustness.testsets.table_rows import RecordReader, read_answered, read_labelled
from robustness.testsets.text.rows import read_completed, read_hub_completed

Bounds = list[tuple[int, int]]
"""Starts and ends in one text."""


class HubReader(Protocol):
    """Loads a split from the hub."""

    def __call__(self, source: HubDataset, task: Task, *, adversarial: bool) -> list[Row]:
        """Returns its rows; in an adversarial set an altered row knows its original if its id names it."""
        ...


@dataclass(frozen=True, slots=True)
class RowForm:
    """The readers of one kind of task's rows."""

    read: RecordReader
    """Reads a record of a table."""
    read_hub: HubReader
    find_gold: Callable[[Texts, Sequence[GoldSpan]], list[Bounds]]
    """Finds the places of gold answers in each text."""


def _in_no_text(texts: Texts, answers: Sequence[GoldSpan]) -> list[Bounds]:
    del answers
    return [[] for _ in texts]


def _in_the_last_text(texts: Texts, answers: Sequence[GoldSpan]) -> list[Bounds]:
    return [*([] for _ in texts[:-1]), find_answers(texts[-1], answers)]


def _slot_values(texts: Texts, answers: Sequence[GoldSpan]) -> list[Bounds]:
    return [find_slot_values(text, answers) for text in texts]


ROW_FORMS: Mapping[TaskKind, RowForm] = {
    TaskKind.LABELS: RowForm(read_labelled, read_hub, _in_no_text),
    TaskKind.SPAN: RowForm(read_answered, read_squad_hub, _in_the_last_text),
    TaskKind.TEXT: RowForm(read_completed, read_hub_completed, _slot_values),
}
