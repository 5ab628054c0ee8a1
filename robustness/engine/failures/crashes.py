"""Crashes: distinguishes an attack that fails on single texts from one that fails on every text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch

from robustness.errors import AttackError, RobustnessError, first_line
from robustness.testsets.example import Example
from robustness.victims.isolation import GONE, UnfitTextError


@dataclass(frozen=True, slots=True)
class Crash:
    """What an attack raised for one example."""

    example: Example
    error: BaseException

    @property
    def kind(self) -> str:
        """The error's class; empty where it is not at fault: no memory, a missing file, or an unfit text."""
        lacking = (RobustnessError, MemoryError, torch.OutOfMemoryError, UnfitTextError)
        is_own = isinstance(self.error, AttackError) or not isinstance(self.error, lacking)
        return type(self.error).__name__ if is_own else ""


@final
@dataclass(slots=True)
class Crashes:
    """Ends a run whose attack fails on three examples in a row with one kind of error.

    "In a row" refers to the order of the examples, so width and batch size do not matter. Examples of one group share
    a text and count once. An example that was not attacked is ignored.
    """

    attack: str
    """Its name."""
    _next: int = 0
    """The place of the first example that has not ended."""
    _ended: dict[int, Crash | bool] = field(default_factory=dict)
    """By place, for examples after one that has not ended: the crash, or whether the attack finished."""
    _kind: str = ""
    _groups: set[str] = field(default_factory=set)

    def add(self, place: int, ended: Crash | bool) -> None:
        """Records how the example at a place ended: the crash, or whether the attack finished.

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
