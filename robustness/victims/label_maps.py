"""A checkpoint's own label names mapped to the task's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint, read_json

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls a label that was given no name."""


@dataclass(frozen=True, slots=True)
class LabelNames:
    """The names of the labels by the head's columns."""

    by_column: dict[int, str]
    is_borrowed: bool = False
    """Whether the checkpoint's own folder does not say them: they are its partner's or its base's, in that order."""


def read_labels(checkpoint: Checkpoint) -> LabelNames:
    """Returns the names of the labels, from config.json and what the pair says of them; reads no weights.

    A folder as peft or a plain Trainer saves it may have none, or LABEL_0 and so on. Then the names are those of the
    checkpoint it is paired with, which was trained on the same task, then an adapter's base's.

    Raises:
        CheckpointError: no config.json names labels, or one is damaged.
    """
    given = dict(checkpoint.labels)
    own = _read_table(checkpoint.folder, given)
    if not own:  # what transformers leaves out of a config of two labels, or of an adapter what the pair says
        unnamed = {name: label for name, label in given.items() if UNNAMED.fullmatch(name)}
        own = {int(name.partition("_")[2]): label for name, label in unnamed.items()}
    if own and not _is_unnamed(own):
        return LabelNames(own)
    others = [checkpoint.partner, checkpoint.base if checkpoint.is_adapter else None]
    tables = [table for folder in others if folder is not None and (table := _read_table(folder, given))]
    fitting = [table for table in tables if not _is_unnamed(table) and (not own or sorted(table) == sorted(own))]
    if fitting:
        return LabelNames(fitting[0], is_borrowed=True)
    if not own and not tables and not checkpoint.is_adapter:  # two of them stand in no config
        return LabelNames({0: "LABEL_0", 1: "LABEL_1"})
    if not own and not tables:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: label-map: no config.json names its labels, neither in "
            f'{checkpoint.folder} nor in what it is paired with; give the pair labels = {{ LABEL_0 = "negative", '
            'LABEL_1 = "positive" }, or write a config.json there with id2label, as in '
            '{"id2label": {"0": "negative", "1": "positive"}}'
        )
    return LabelNames(own or tables[0])


def find_better_order(answered: np.ndarray, gold: np.ndarray, n: int) -> tuple[int, ...] | None:
    """Returns the order of labels under which more answers would be right; None where the given one is best.

    Args:
        answered: Labels as the checkpoint answers them, (examples,).
        gold: Those that are right.
        n: How many labels there are.

    >>> find_better_order(np.array([0, 2, 1]), np.array([0, 1, 2]), 3)
    (0, 2, 1)
    """
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (answered, gold), 1)
    rows, order = linear_sum_assignment(counts, maximize=True)
    return tuple(order.tolist()) if counts[rows, order].sum() > counts.trace() else None


def map_labels(task: Task, id2label: Mapping[int, str], checkpoint: str) -> tuple[int, ...]:
    """Returns for each task label the column of the head that holds it, matched by name or alias.

    >>> from robustness.definitions.tasks import find_task
    >>> map_labels(find_task("sst2"), {0: "POSITIVE", 1: "NEGATIVE"}, "mine")
    (1, 0)

    Raises:
        CheckpointError: the head has another number of labels, or names that are not the task's.
    """
    columns = {task.find_label(str(name)): column for column, name in id2label.items()}
    if set(columns) != set(range(len(task.labels))) or sorted(id2label) != list(range(len(task.labels))):
        found = ", ".join(f"{column}: {name}" for column, name in sorted(id2label.items()))
        example = ", ".join(f'"{column}": "{label}"' for column, label in enumerate(task.labels))
        pairs = zip((name for _, name in sorted(id2label.items())), task.labels, strict=False)
        given = ", ".join(f'{name} = "{label}"' for name, label in pairs)
        raise CheckpointError(
            f"checkpoint {checkpoint}: label-map: its labels ({found}) cannot be mapped by name to those of "
            f"{task.name} ({', '.join(task.labels)}); set id2label in its config.json, in the order of its head, as "
            f'in "id2label": {{{example}}}, or give the pair labels = {{ {given} }}'
        )
    return tuple(columns[label] for label in range(len(task.labels)))


def _read_table(folder: Path, given: Mapping[str, str]) -> dict[int, str]:
    """A config's id2label in the words of `given`; empty where it has none, or none that is a table of columns."""
    if not (folder / "config.json").is_file():
        return {}
    table = read_json(folder / "config.json").get("id2label")
    try:
        names = {int(column): str(name) for column, name in table.items()} if isinstance(table, dict) else {}
    except ValueError:
        return {}
    return {column: given.get(name, name) for column, name in names.items()}


def _is_unnamed(table: Mapping[int, str]) -> bool:
    return any(UNNAMED.fullmatch(name) for name in table.values())
