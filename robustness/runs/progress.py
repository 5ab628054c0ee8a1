"""How far a run is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """What runs now, and how much is done."""

    message: str
    done: int
    """Examples finished, over all cells."""
    total: int


ProgressCallback: TypeAlias = Callable[[Progress], None]
