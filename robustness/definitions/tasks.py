"""Finds tasks: shipped ones by name, a user's own by the path of a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from robustness.definitions.catalog import Catalog
from robustness.definitions.reading import read_content, read_definition
from robustness.definitions.task_tables import TaskDefinition
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import DefinitionError
from robustness.tasks.task import Task

TASKS = Catalog("task", "suites/tasks", TaskDefinition)


@cache
def shipped_tasks() -> tuple[Task, ...]:
    """Returns the shipped tasks by name."""
    return tuple(find_task(name) for name in TASKS.names())


def find_task(reference: str, folder: Path | None = None) -> Task:
    """Returns the task of a shipped name, or of the path of a file that ends in .toml.

    The file defines a task, or a test set, whose task is returned.

    Args:
        reference: a name or a path.
        folder: the base of a relative path; None: the working directory.

    Raises:
        DefinitionError: no task has that name, or the file is malformed; the message has the nearest right name.
    """
    if not reference.endswith(".toml"):
        return TASKS.find(reference, folder).definition.named(reference)
    path = Path(reference) if folder is None else folder / reference
    if "task" in read_content(path):
        return task_of_testset(path, read_definition(path, TestsetDefinition))
    entry = TASKS.find(str(path))
    return entry.definition.named(entry.name, str(path.resolve()))


def task_of_testset(path: Path, definition: TestsetDefinition) -> Task:
    """Returns the task of a test set, which its file names or holds as the table `[task]` under the file's name.

    Raises:
        DefinitionError: as `find_task`, with the test set's file before the message.
    """
    if isinstance(definition.task, TaskDefinition):
        if path.stem in TASKS.names():
            raise DefinitionError(
                f"{path} [task]: the name {path.stem!r} is taken by a shipped task; rename the file"
            )
        return definition.task.named(path.stem, str(path.resolve()))
    reference = definition.task
    try:
        if reference.endswith(".toml") and isinstance(read_content(path.parent / reference).get("task"), str):
            raise DefinitionError(f"{reference} is a test set's file that names its task in turn; name that task")
        return find_task(reference, path.parent)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: key 'task': {error}") from None


TASK_KEYS = frozenset({"fields", "kind", "labels", "task", "template"})
"""Keys only of tasks and test sets: a file with one of them is no recipe."""


def is_task_file(reference: str) -> bool:
    """Whether a path leads to a task's file, or to a test set's file with a task.

    Raises:
        DefinitionError: it ends in .toml and is not TOML.
    """
    return reference.endswith(".toml") and not TASK_KEYS.isdisjoint(read_content(Path(reference)))
