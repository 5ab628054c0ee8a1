"""Maps a checkpoint's own label names to the task's."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from robustness.definitions.naming import nearest_of
from robustness.definitions.writing import toml_value
from robustness.errors import CheckpointError
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint, read_json

UNNAMED = re.compile(r"LABEL_\d+")
"""transformers' name of an unnamed label."""


@dataclass(frozen=True, slots=True)
class LabelNames:
    """The names of the labels by the head's columns."""

    by_column: Mapping[int, str]
    """With the pair's names, where it gives some."""
    as_saved: Mapping[int, str]
    """With the config's names, which the pair may map."""
    is_borrowed: bool = False
    """Whether the names come from its partner or its base (in this order), because its own folder lacks names."""


def read_labels(checkpoint: Checkpoint, task: Task) -> LabelNames:
    """Returns the names of the labels, from config.json and the pair's map; reads no weights.

    A folder saved by peft or a plain Trainer may have no names, or LABEL_0 and so on. Then the names are those of its
    partner, which was trained on the same task, or of an adapter's base.

    Raises:
        CheckpointError: no config.json names labels, or one is damaged.
    """
    given = dict(checkpoint.labels)
    own = _read_table(checkpoint.folder)
    if not own:  # transformers omits the names of two labels; for an adapter the pair may give them
        own = {int(name.partition("_")[2]): name for name in given if UNNAMED.fullmatch(name)}
        own = own if sorted(own) == list(range(len(task.labels))) else {}
    if own and not _is_unnamed(_translate(own, given)):
        return LabelNames(_translate(own, given), own)
    others = [checkpoint.partner, checkpoint.base if checkpoint.is_adapter else None]
    tables = [table for folder in others if folder is not None and (table := _read_table(folder))]
    fitting = [table for table in tables if not own or sorted(table) == sorted(own)]
    named = [table for table in fitting if not _is_unnamed(_translate(table, given))]
    if named:
        saved = own or {column: f"LABEL_{column}" for column in named[0]}
        return LabelNames(_translate(named[0], given), saved, is_borrowed=True)
    if not own and not tables and checkpoint.is_adapter:
        numbered = [(f"LABEL_{column}", label) for column, label in enumerate(task.labels)]
        example = json.dumps({"id2label": dict(enumerate(task.labels))}, ensure_ascii=False)
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: label-map: no config.json names its labels, neither in "
            f"{checkpoint.folder} nor in what it is paired with; {_advise(numbered, given)}, or write a config.json "
            f"there, as in {example}"
        )
    found = own or (tables[0] if tables else {0: "LABEL_0", 1: "LABEL_1"})  # configs omit two labels
    return LabelNames(_translate(found, given), found)


def find_better_order(answered: np.ndarray, gold: np.ndarray, n: int) -> tuple[int, ...] | None:
    """Returns the order of labels with more right answers; None if the given order is best.

    Args:
        answered: The checkpoint's answered labels, (examples,).
        gold: Gold labels.
        n: Number of labels.

    >>> find_better_order(np.array([0, 2, 1]), np.array([0, 1, 2]), 3)
    (0, 2, 1)
    """
    counts = np.zeros((n, n), dtype=int)
    np.add.at(counts, (answered, gold), 1)
    rows, order = linear_sum_assignment(counts, maximize=True)
    return tuple(order.tolist()) if counts[rows, order].sum() > counts.trace() else None


def find_columns(checkpoint: Checkpoint, task: Task) -> tuple[int, ...]:
    """Returns for each task label the column of the checkpoint's head that holds it.

    Raises:
        CheckpointError: its labels have no names or other names than the task's, or the pair maps an unknown name.
    """
    folders = (checkpoint.folder, checkpoint.partner, checkpoint.base)
    refuse_unknown_names(checkpoint, task, [each for each in folders if each is not None])
    return map_labels(task, read_labels(checkpoint, task), checkpoint.name, dict(checkpoint.labels))


def map_labels(
    task: Task, names: LabelNames, checkpoint: str, given: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Returns for each task label the column of the head that holds it, matched by name or alias.

    >>> from robustness.definitions.tasks import find_task
    >>> found = {0: "POSITIVE", 1: "NEGATIVE"}
    >>> map_labels(find_task("sst2"), LabelNames(found, found), "mine")
    (1, 0)

    Args:
        task: the task with the labels.
        names: of the head's columns.
        checkpoint: its name.
        given: the pair's map of label names, which the advice extends.

    Raises:
        CheckpointError: the head has another number of labels, or other names.
    """
    columns = {task.find_label(str(name)): column for column, name in names.by_column.items()}
    numbers = list(range(len(task.labels)))
    if set(columns) != set(numbers) or sorted(names.by_column) != numbers:
        raise CheckpointError(f"checkpoint {checkpoint}: label-map: {_explain_mismatch(task, names, given or {})}")
    return tuple(columns[label] for label in numbers)


def advise_order(checkpoint: Checkpoint, task: Task, columns: Sequence[int]) -> str:
    """Returns the advice for mapping the task's labels to these columns of a checkpoint's head."""
    saved = read_labels(checkpoint, task).as_saved
    named = sorted((column, label) for column, label in zip(columns, task.labels, strict=True))
    return _advise([(saved[column], label) for column, label in named], dict(checkpoint.labels))


def refuse_unknown_names(checkpoint: Checkpoint, task: Task, headed: Sequence[Path]) -> None:
    """Refuses a map of a name that no head has, because it would have no effect.

    Args:
        checkpoint: one arm.
        task: of the pair.
        headed: folders of arms and bases with such heads; unnamed columns are LABEL_0 and so on.

    Raises:
        CheckpointError: the message has the nearest name, if there is one.
    """
    known = {name for folder in headed for name in _read_table(folder).values()}
    unnamed = {f"LABEL_{column}" for column in range(len(task.labels)) if headed}
    for name, _ in checkpoint.labels:
        if name not in known | unnamed:
            without = "; they answer without a head for labels: leave it out"
            hint = nearest_of(name, known or unnamed) if headed else without
            raise CheckpointError(
                f"checkpoint {checkpoint.name}: label-map: the pair says what {name!r} stands for, but no label of "
                f"its arms has that name{hint}"
            )


def _explain_mismatch(task: Task, names: LabelNames, given: Mapping[str, str]) -> str:
    found = ", ".join(f"{column}: {name}" for column, name in sorted(names.by_column.items()))
    known = ", ".join(task.labels)
    if len(names.by_column) != len(task.labels):
        return (
            f"its head has {len(names.by_column)} labels ({found or 'none'}), the task {task.name} has "
            f"{len(task.labels)} ({known}); give the task that it was trained on, or a checkpoint of this one"
        )
    saved = [name for _, name in sorted(names.as_saved.items())]
    example = json.dumps({"id2label": dict(enumerate(task.labels))}, ensure_ascii=False)
    by_config = f"set id2label in its config.json, in the order of its head, as in {example}"
    what = f"its labels ({found}) cannot be mapped by name to those of {task.name} ({known}); "
    if len(set(saved)) != len(saved) or sorted(names.as_saved) != list(range(len(task.labels))):
        return what + by_config  # names do not distinguish them
    return f"{what}{_advise(_guess(task, saved), given)}, each with the label it stands for; or {by_config}"


def _guess(task: Task, saved: Sequence[str]) -> list[tuple[str, str]]:
    """Names with labels: names of the task with their own label, the others in order."""
    known = [task.find_label(name) for name in saved]
    own = [label if known.count(label) == 1 else None for label in known]
    left = iter(label for label in range(len(task.labels)) if label not in own)
    return [
        (name, task.labels[next(left) if label is None else label]) for name, label in zip(saved, own, strict=True)
    ]


def _advise(pairs: Sequence[tuple[str, str]], given: Mapping[str, str]) -> str:
    """Advice for mapping names, in the pairs file and on the command line; keeps existing entries."""
    together = {**given, **dict(pairs)}
    table = ", ".join(f"{_toml_key(name)} = {toml_value(label)}" for name, label in together.items())
    if any("=" in name for name in together):  # the command line splits there
        return f"give the pair labels = {{ {table} }}"
    options = " ".join(shlex.join(["--label", f"{name}={label}"]) for name, label in together.items())
    return f"give the pair labels = {{ {table} }}, or {options}"


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def _translate(table: Mapping[int, str], given: Mapping[str, str]) -> dict[int, str]:
    return {column: given.get(name, name) for column, name in table.items()}


def _read_table(folder: Path) -> dict[int, str]:
    """A config's id2label; empty if it is missing or no table of columns."""
    if not (folder / "config.json").is_file():
        return {}
    table = read_json(folder / "config.json").get("id2label")
    try:
        return {int(column): str(name) for column, name in table.items()} if isinstance(table, dict) else {}
    except ValueError:
        return {}


def _is_unnamed(table: Mapping[int, str]) -> bool:
    return any(UNNAMED.fullmatch(name) for name in table.values())
