"""What a pairs file may say, and reading and writing one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from robustness.definitions.model import Definition
from robustness.definitions.reading import read_definition
from robustness.definitions.tasks import find_task
from robustness.errors import DefinitionError, UsageError
from robustness.paths import expand
from robustness.tasks.task import Task

Text = Annotated[str, Field(min_length=1)]


class PairEntry(Definition):
    """One `[[pair]]`: a full and a PEFT checkpoint of one base, task and training seed."""

    name: Text
    task: Text
    """A shipped task's name, or a path relative to the file."""
    base: Text
    full: Text
    peft: Text
    seed: NonNegativeInt | None = None


class PairsDefinition(Definition):
    """The whole file."""

    pair: tuple[PairEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair whose references are resolved: absolute folders, or hub ids."""

    name: str
    task: Task
    base: str
    full: str
    peft: str
    full_name: str
    """The reference as the file has it; names the checkpoint in every table."""
    peft_name: str
    seed: int | None


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Reads a pairs file; relative references are relative to the file.

    Raises:
        DefinitionError: the file is missing or malformed, has no pair, repeats a name, or has a path that cannot be
            spelled out.
    """
    entries = read_definition(path, PairsDefinition).pair
    if not entries:
        raise DefinitionError(f"{path}: no [[pair]] in the file; expected at least one")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(f"{path}: two pairs are named {name!r}; names must differ")
    return tuple(_resolve(entry, _task(entry, path), path) for entry in entries)


def _task(entry: PairEntry, path: Path) -> Task:
    try:
        return find_task(entry.task, path.parent)
    except DefinitionError as error:
        raise DefinitionError(f"{path}: pair {entry.name!r}: {error}") from None


def write_pairs(path: Path, entries: Sequence[PairEntry]) -> None:
    """Writes entries as TOML, replacing the file in one step."""
    text = "# Written by `robustness train`. Paths are relative to this file.\n"
    for entry in entries:
        text += "\n[[pair]]\n"
        for key, value in entry.model_dump(exclude_none=True).items():
            text += f"{key} = {value if isinstance(value, int) else _toml_string(value)}\n"
    draft = path.with_suffix(".toml.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _resolve(entry: PairEntry, task: Task, path: Path) -> Pair:
    try:
        base, full, peft = (_resolve_reference(each, path) for each in (entry.base, entry.full, entry.peft))
    except UsageError as error:
        raise DefinitionError(f"{path}: pair {entry.name!r}: {error}") from None
    return Pair(
        name=entry.name,
        task=task,
        base=base,
        full=full,
        peft=peft,
        full_name=entry.full,
        peft_name=entry.peft,
        seed=entry.seed,
    )


def _resolve_reference(reference: str, path: Path) -> str:
    """An absolute folder, or what was given, spelled out: a hub id, or what is not there."""
    folder = path.resolve().parent
    spelled = expand(reference, folder)
    return str((folder / spelled).resolve()) if (folder / spelled).exists() else spelled


def _toml_string(value: str) -> str:
    """JSON's escapes are TOML's too; of what TOML wants escaped JSON only leaves the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
