"""Crashes: an attack that fails on a text now and then, told from one that fails on every text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch

from robustness.errors import AttackError, RobustnessError, first_line
from robustness.testsets.example import Example
from robustness.victims.isolation import GONE


@dataclass(frozen=True, slots=True)
class Crash:
    """What an attack raised for one example."""

    example: Example
    error: BaseException

    @property
    def kind(self) -> str:
        """The error's class; empty where an error says what the attack or the machine lacks, as the rows then do."""
        lacking = (RobustnessError, MemoryError, torch.OutOfMemoryError)
        is_own = isinstance(self.error, AttackError) or not isinstance(self.error, lacking)
        return type(self.error).__name__ if is_own else ""


@final
@dataclass(slots=True)
class Crashes:
    """Ends a run whose attack fails on three examples in a row with one kind of error.

    In a row: by the order in which examples were given, so that neither width nor batch size matter. Examples of one
    group share a text, and count as one; an example that was not attacked counts neither way.
    """

    attack: str
    """Its name."""
    _next: int = 0
    """The place of the first example that has not ended."""
    _ended: dict[int, Crash | bool] = field(default_factory=dict)
    """By place, of examples behind one that has not ended: a crash, or whether the attack got to its end."""
    _kind: str = ""
    _groups: set[str] = field(default_factory=set)

    def add(self, place: int, ended: Crash | bool) -> None:
        """Books how the example at a place ended: with a crash, or with whether the attack got to its end.

        Raises:
            AttackError: it is the third crash in a row.
        """
        self._ended[place] = ended
        while self._next in self._ended:
            self._count(self._ended.pop(self._next))
            self._next += 1

    def _count(self, ended: Crash | bool) -> None:
        if ended is False:
            return
        if ended is True or not ended.kind or ended.kind != self._kind:
            self._groups.clear()
        if ended is True:
            return
        self._kind = ended.kind
        if ended.kind:
            self._groups.add(ended.example.group)
        if len(self._groups) >= GONE:
            kind, said = ended.kind, first_line(ended.error)
            raise AttackError(
                f"attack {self.attack}: failed on {GONE} examples in a row, the last time on {ended.example.id!r}, "
                f"with {kind if said == kind else f'{kind}: {said}'}; mend it, try it with `robustness check`, and "
                "give --out another folder, or leave it out"
            )
