"""How far a call is, as it tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class LiveScore:
    """One checkpoint's accuracy so far in the current test set and attack."""

    checkpoint: str
    accuracy: float
    """Robust accuracy, or accuracy without an attack."""
    n: int


@dataclass(frozen=True, slots=True)
class CellProgress:
    """The cell that runs now, or another part whose steps are counted: then without queries and scores."""

    done: int
    total: int
    queries_per_second: float = 0.0
    scores: tuple[LiveScore, ...] = ()
    """All checkpoints that this process has run in it, the current one last."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The current part and the amount done."""

    message: str
    done: int
    """Finished steps of the whole run: attacked examples, searched questions, replays, probed examples."""
    total: int
    cell: CellProgress | None = None
    """None if the steps of the current part are not counted."""
    seconds_left: float | None = None
    """Expected; None before any timing."""


ProgressCallback: TypeAlias = Callable[[Progress], None]
