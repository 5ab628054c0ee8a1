"""A checkpoint's own label names mapped to the task's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from robustness.definitions.tasks import Task
from robustness.errors import CheckpointError

# The names that public checkpoints use for GLUE's labels, folded by _fold.
ALIASES = {
    "neg": "negative",
    "pos": "positive",
    "notequivalent": "notduplicate",
    "equivalent": "duplicate",
    "nonentailment": "notentailment",
    "contradict": "contradiction",
}


def map_labels(task: Task, id2label: Mapping[int, str], checkpoint: str) -> tuple[int, ...]:
    """Returns for each task label the column of the head that holds it, matched by name.

    >>> from robustness.definitions.tasks import find_task
    >>> map_labels(find_task("sst2"), {0: "POSITIVE", 1: "NEGATIVE"}, "mine")
    (1, 0)

    Raises:
        CheckpointError: the head has another number of labels, or names that are not the task's.
    """
    names = {ALIASES.get(_fold(str(name)), _fold(str(name))): column for column, name in id2label.items()}
    wanted = [_fold(label) for label in task.labels]
    if set(names) != set(wanted) or sorted(id2label) != list(range(len(wanted))):
        found = ", ".join(f"{column}: {name}" for column, name in sorted(id2label.items()))
        raise CheckpointError(
            f"checkpoint {checkpoint}: label-map: its labels ({found}) cannot be mapped by name to those of "
            f"{task.name} ({', '.join(task.labels)}); set id2label and label2id in its config.json"
        )
    return tuple(names[label] for label in wanted)


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
