"""A checkpoint's own label names mapped to the task's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint, read_json

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls a label that was given no name."""


def read_labels(checkpoint: Checkpoint) -> dict[int, str]:
    """Returns the names of the labels by the head's columns, from a config.json; reads no weights.

    An adapter folder as peft saves it has none, so its own is asked first, then that of the checkpoint it is paired
    with, which was trained on the same task, then its base's.

    Raises:
        CheckpointError: no config.json names labels, or one is damaged.
    """
    folders = [checkpoint.folder]
    if checkpoint.is_adapter:
        folders += [folder for folder in (checkpoint.partner, checkpoint.base) if folder is not None]
    tables = [_read_table(folder / "config.json") for folder in folders if (folder / "config.json").is_file()]
    named = [table for table in tables if table and not any(UNNAMED.fullmatch(name) for name in table.values())]
    if not named and not any(tables) and checkpoint.is_adapter:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: label-map: no config.json names its labels, neither in "
            f"{checkpoint.folder} nor in what it is paired with; write one there with id2label, as in "
            '{"id2label": {"0": "negative", "1": "positive"}}'
        )
    return (named or [table for table in tables if table] or [{0: "LABEL_0", 1: "LABEL_1"}])[0]


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
        raise CheckpointError(
            f"checkpoint {checkpoint}: label-map: its labels ({found}) cannot be mapped by name to those of "
            f"{task.name} ({', '.join(task.labels)}); set id2label in its config.json, in the order of its head, as "
            f'in "id2label": {{{example}}}'
        )
    return tuple(columns[label] for label in range(len(task.labels)))


def _read_table(file: Path) -> dict[int, str]:
    """A config's id2label; empty where it has none, or none that is a table of columns."""
    table = read_json(file).get("id2label")
    try:
        return {int(column): str(name) for column, name in table.items()} if isinstance(table, dict) else {}
    except ValueError:
        return {}
