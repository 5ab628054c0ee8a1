"""Writes rows from a Python object as a test set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeGuard

import pandas as pd

from robustness.definitions.naming import nearest_of
from robustness.definitions.writing import toml_value
from robustness.errors import UsageError
from robustness.tasks.task import Task

NAME = "data"
"""The test set's name."""
ROWS = "rows.jsonl"
LABEL, KEYS = "label", ("id", "group")


def is_rows(data: object) -> bool:
    """Whether it holds rows rather than a path."""
    return isinstance(data, pd.DataFrame) or _is_dataset(data)


def _is_dataset(data: object) -> TypeGuard[object]:
    return type(data).__module__.partition(".")[0] == "datasets"  # slow to import


def write_rows(data: object, task: Task, folder: Path) -> None:
    """Writes a DataFrame or a datasets.Dataset as a test set's definition with its rows.

    Args:
        data: has a column for each field of the task, and `label` (for questions and texts `answers`); `id` and
            `group` are optional.
        task: the rows' task.
        folder: where to write the two files.

    Raises:
        UsageError: a missing column, or a data set that is no list of rows.
    """
    frame = _frame(data)
    wanted = [*task.fields, task.kind.traits.gold_column]
    for name in wanted:
        if list(frame.columns).count(name) != 1:
            raise UsageError(
                f"data: expected one column {name!r} of task {task.name}{nearest_of(name, map(str, frame.columns))}; "
                "rename the columns"
            )
    keys = [name for name in KEYS if name in frame.columns]
    kept = frame[[*wanted, *keys]].reset_index(drop=True)
    kept.to_json(folder / ROWS, orient="records", lines=True, force_ascii=False)
    table = {"reader": "table", "root": "definition", "file": ROWS, "columns": task.fields}
    table |= {wanted[-1]: wanted[-1]} | {name: name for name in keys}
    lines = {"summary": "Rows given from Python.", "licence": "their owner's", "task": task.file or task.name}
    text = [f"{key} = {toml_value(value)}" for key, value in (lines | {"kind": "clean"}).items()]
    text += ["", "[[test.local]]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
    (folder / f"{NAME}.toml").write_text("\n".join(text) + "\n", encoding="utf-8")


def name_rows(message: str, data: object, folder: Path) -> str:
    """Turns a message about the written rows into one about the object: its row, index and column."""
    rows = re.escape(str((folder / ROWS).resolve()))

    def name(match: re.Match[str]) -> str:
        number = int(match[1])
        index = data.index.tolist()[number - 1] if isinstance(data, pd.DataFrame) else number - 1
        column = f", column {LABEL!r}: " if match[2] else ": "
        return f"data: row {number} (index {index!r}){column}"

    named = re.sub(rf"{rows} row (\d+): (label (?=\S+;))?", name, message)
    return re.sub(rf"(?:test set {NAME}: )?{rows}", NAME, named).replace(f"test set {NAME}: ", f"{NAME}: ")


def _frame(data: object) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    from datasets import Dataset

    if not isinstance(data, Dataset):
        raise UsageError(f"data: expected a datasets.Dataset; got a {type(data).__name__}; choose a split of it")
    frame = data.to_pandas()
    assert isinstance(frame, pd.DataFrame), "a data set returns this unless asked for batches"
    names = getattr(data.features.get(LABEL), "names", None)  # for labels stored as indices
    if names:
        # A row without a label makes all indices floats, or objects; it is refused by its number when it is read.
        indices = frame[LABEL].astype(float)
        frame[LABEL] = [names[int(index)] if 0 <= index < len(names) else index for index in indices]
    return frame
