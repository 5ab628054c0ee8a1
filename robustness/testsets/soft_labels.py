"""Soft labels: reads annotators' votes as a gold label and a disagreement."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

from robustness.errors import DataError
from robustness.tasks.task import Task

TIE = 1e-9
"""Shares closer than this are equal."""


@dataclass(frozen=True, slots=True)
class SoftLabel:
    """The gold label and disagreement of a distribution over labels."""

    label: int | None
    """Index of the most frequent label; None: several tie."""
    entropy: float
    """The distribution's entropy in bits: 0 if all annotators agree (ChaosNLI, arXiv 2010.03532)."""
    tied: tuple[int, ...] = ()
    """The labels that tie."""


def read_soft_label(cell: object, task: Task, names: Mapping[str, str], where: str) -> SoftLabel | None:
    """Returns the votes of a cell with a distribution; None for a single label.

    A distribution is a list with a number for each label in the task's order, or an object from labels to numbers. In
    a file of separated fields it is JSON. Numbers are counts or shares.

    Args:
        cell: the file's value.
        task: defines the labels.
        names: the file's own names of labels to the task's.
        where: names the row in errors.

    Raises:
        DataError: numbers that are not counts, too few or too many numbers, or an unknown label.
    """
    if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{"):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
    if isinstance(cell, Mapping):
        counts = _by_name(cell, task, names, where)
    elif isinstance(cell, list | tuple):
        if len(cell) != len(task.labels):
            known = ", ".join(task.labels)
            raise DataError(f"{where}: {len(cell)} numbers for labels; {task.name} has {len(task.labels)}: {known}")
        counts = [_number(value, where) for value in cell]
    else:
        return None
    total = sum(counts)
    if not total > 0:
        raise DataError(f"{where}: no label has a number above 0, so none is right; mend or remove the row")
    shares = [count / total for count in counts]
    best = tuple(index for index, share in enumerate(shares) if share > max(shares) - TIE)
    entropy = -sum(share * math.log2(share) for share in shares if share > 0) + 0.0
    return SoftLabel(best[0] if len(best) == 1 else None, entropy, best if len(best) > 1 else ())


def _by_name(cell: Mapping[object, object], task: Task, names: Mapping[str, str], where: str) -> list[float]:
    counts = [0.0] * len(task.labels)
    for name, value in cell.items():
        index = task.find_label(names.get(str(name), str(name)))
        if index is None:
            raise DataError(f"{where}: label {reprlib.repr(name)}; expected one of {', '.join(task.labels)}")
        counts[index] += _number(value, where)
    return counts


def _number(value: object, where: str) -> float:
    if value is None:  # a Parquet column without a value in this row
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise DataError(f"{where}: {reprlib.repr(value)} is no count and no share of a label; expected 0 or more")
    return float(value)
