"""Pairs files: schema, reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, model_validator

from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest_of
from robustness.definitions.reading import read_definition
from robustness.definitions.tasks import find_task
from robustness.definitions.writing import toml_value
from robustness.errors import DefinitionError, UsageError
from robustness.paths import expand
from robustness.sharing import hold, name_draft
from robustness.tasks.task import Task

Text = Annotated[str, Field(min_length=1)]
ARMS, HEADLINE = ("reference", "candidate"), ("full", "peft")
"""A file's names of a pair's two checkpoints."""


class BasePrecision(StrEnum):
    """How the base under an adapter is held."""

    FOUR_BIT = "4bit"
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314)."""
    FULL = "full"


class PairEntry(Definition):
    """One `[[pair]]`: two checkpoints of one base and task."""

    name: Text
    task: Text
    """A shipped task's name, or a path relative to the file."""
    base: Text
    reference: Text | None = None
    candidate: Text | None = None
    full: Text | None = None
    """In place of `reference`: the fully fine-tuned arm of the headline contrast."""
    peft: Text | None = None
    seed: NonNegativeInt | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    """From the checkpoints' label names to the task's, if they differ."""
    base_precision: BasePrecision | None = None
    """The base under the pair's adapters; None: as in their training."""

    @model_validator(mode="after")
    def _name_both_arms(self) -> Self:
        given = {name for name in (*ARMS, *HEADLINE) if getattr(self, name) is not None}
        if given not in (set(ARMS), set(HEADLINE)):
            raise ValueError(
                f"pair {self.name!r}: names {', '.join(sorted(given)) or 'no arm'}; "
                "expected reference and candidate, or full and peft"
            )
        return self

    @property
    def is_headline(self) -> bool:
        """Whether it names its arms full and peft."""
        return self.full is not None

    @property
    def arms(self) -> tuple[str, str]:
        """Reference and candidate as written in the file."""
        reference, candidate = (self.full, self.peft) if self.is_headline else (self.reference, self.candidate)
        assert reference is not None and candidate is not None, "the validator ensures this"
        return reference, candidate


class PairsDefinition(Definition):
    """The whole file."""

    pair: tuple[PairEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair with resolved references: absolute folders, or hub ids."""

    name: str
    task: Task
    base: str
    reference: str
    candidate: str
    reference_name: str
    """The reference as written in the file; names the checkpoint in every table."""
    candidate_name: str
    seed: int | None
    is_headline: bool = False
    """Whether the file names its arms full and peft; the checkpoints determine the contrast."""
    labels: tuple[tuple[str, str], ...] = ()
    """The checkpoints' label names with the task's, if they differ."""
    base_precision: BasePrecision | None = None
    """The base under the pair's adapters; None: as in their training."""

    @property
    def names(self) -> tuple[str, str]:
        """For both arms, the reference first."""
        return self.reference_name, self.candidate_name


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Reads a pairs file; relative references are relative to the file.

    Raises:
        DefinitionError: the file is missing, malformed or without a pair. Or it repeats a name, pairs a checkpoint
            with itself, or has a path that cannot be resolved.
    """
    entries = read_definition(path, PairsDefinition).pair
    if not entries:
        raise DefinitionError(f"{path}: no [[pair]] in the file; expected at least one")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(f"{path}: two pairs are named {name!r}; names must differ")
    return tuple(_resolve_of(entry, path) for entry in entries)


def _resolve_of(entry: PairEntry, path: Path) -> Pair:
    try:
        return resolve_entry(entry, path.resolve().parent)
    except (DefinitionError, UsageError) as error:
        raise DefinitionError(f"{path}: pair {entry.name!r}: {error}") from None


def write_pairs(path: Path, entries: Sequence[PairEntry]) -> None:
    """Writes entries as TOML, replacing the file in one step."""
    text = "# Written by `robustness train`. Paths are relative to this file.\n"
    for entry in entries:
        text += "\n[[pair]]\n"
        for key, value in entry.model_dump(exclude_none=True, exclude_defaults=True).items():
            text += f"{key} = {toml_value(value)}\n"
    draft = name_draft(path)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def stored_pairs(path: Path) -> list[PairEntry]:
    """Returns the entries of a pairs file; none without a file.

    Raises:
        DefinitionError: the file cannot be read.
    """
    return list(read_definition(path, PairsDefinition).pair) if path.is_file() else []


def change_pairs(path: Path, change: Callable[[list[PairEntry]], Sequence[PairEntry]]) -> None:
    """Writes what a change makes of the stored entries, in a folder that exists; nothing if it leaves none.

    Other processes that change the file wait meanwhile, so that no entry of theirs is lost.

    Raises:
        DefinitionError: the file cannot be read.
    """
    with hold(path):
        if entries := change(stored_pairs(path)):
            write_pairs(path, entries)


def resolve_entry(entry: PairEntry, folder: Path) -> Pair:
    """Returns the pair of an entry; resolves relative references against a folder.

    Raises:
        DefinitionError: an unknown task, one checkpoint as both arms, or a map to an unknown label.
        UsageError: a path that cannot be resolved.
    """
    task = find_task(entry.task, folder)
    base, reference, candidate = (_resolve_reference(each, folder) for each in (entry.base, *entry.arms))
    if reference == candidate:
        raise DefinitionError(
            f"both arms are {entry.arms[0]}; expected two checkpoints, such as those of two training seeds"
        )
    _refuse_labels(entry.labels, task)
    return Pair(
        name=entry.name,
        task=task,
        base=base,
        reference=reference,
        candidate=candidate,
        reference_name=entry.arms[0],
        candidate_name=entry.arms[1],
        seed=entry.seed,
        is_headline=entry.is_headline,
        labels=tuple(sorted(entry.labels.items())),
        base_precision=entry.base_precision,
    )


def _refuse_labels(labels: Mapping[str, str], task: Task) -> None:
    for given, label in labels.items():
        if label not in task.labels:
            raise DefinitionError(
                f"labels: {given!r} is mapped to {label!r}, which task {task.name} does not have"
                f"{nearest_of(label, task.labels)}"
            )


def _resolve_reference(reference: str, folder: Path) -> str:
    """An absolute folder; a hub id or a missing path is returned unchanged."""
    spelled = expand(reference, folder)
    return str((folder / spelled).resolve()) if (folder / spelled).exists() else spelled
