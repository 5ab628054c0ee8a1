"""A task: what a checkpoint reads, what it answers with, and which parts of it an attack may change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TaskKind(StrEnum):
    """What a task is answered with."""

    LABELS = "labels"
    SPAN = "span"
    """A span of the last segment."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Source: GLUE (arXiv 1804.07461) for fields and label order; the attacked fields are those TextAttack's
    recipes leave open (a premise or a passage is context and stays as it is).
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    attacked: tuple[str, ...]
    scores_f1: bool = False
    kind: TaskKind = TaskKind.LABELS
    template: str = ""
    """What a prompted causal language model reads, with the fields in braces."""
    verbalisers: tuple[str, ...] = ()
    """What it would go on with, for each label."""

    @property
    def attacked_segments(self) -> tuple[int, ...]:
        """Indices into `fields` that an attack may change."""
        return tuple(self.fields.index(name) for name in self.attacked)
