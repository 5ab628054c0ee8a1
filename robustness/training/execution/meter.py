"""How far trainings are, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, final

from robustness.progress import Progress, ProgressCallback

Told: TypeAlias = str | float
"""What a training tells while it runs: a line for people, or the share of it that is done, from 0 to 1."""
Tell: TypeAlias = Callable[[Told], None]
KNOWN = 0.01
"""Share of the work from which a time is expected: the first steps of all wait for rows and weights."""


@final
class Meter:
    """Adds up the trainings of a call, one after the other or side by side.

    >>> seen = []
    >>> clock = iter([0.0, 10.0]).__next__
    >>> meter = Meter(seen.append, clock)
    >>> meter.add(Path("full"), steps=30, cost=3.0)
    >>> meter.add(Path("lora"), steps=30, cost=1.0)
    >>> meter.take(Path("full"), "full seed 0", 0.5)
    >>> seen[0].done, seen[0].total, round(seen[0].seconds_left, 1)
    (15, 60, 16.7)

    Steps are those of the optimiser, over all learning rates. The time left is expected from the costs of finished
    and of open jobs.

    Args:
        report: receives the state; None: nothing is added up.
        clock: tells seconds.
    """

    def __init__(self, report: ProgressCallback | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._clock = clock
        self._sizes: dict[Path, tuple[int, float]] = {}
        self._shares: dict[Path, float] = {}
        self._started: float | None = None

    def add(self, folder: Path, steps: int, cost: float) -> None:
        """Adds a training.

        Args:
            folder: of its checkpoint.
            steps: of the optimiser, over all learning rates.
            cost: expected, in any unit that all trainings share.
        """
        self._sizes[folder], self._shares[folder] = (steps, cost), 0.0
        self._started = self._clock() if self._started is None else self._started

    def take(self, folder: Path, label: str, share: float) -> None:
        """Takes the share of a training that is done; less than before if it starts again."""
        if self._report is None or folder not in self._sizes:
            return
        self._shares[folder] = share
        done, spent = (sum(self._shares[each] * size[i] for each, size in self._sizes.items()) for i in (0, 1))
        steps, cost = (sum(size[i] for size in self._sizes.values()) for i in (0, 1))
        assert self._started is not None, "set with the first training"
        took = self._clock() - self._started
        left = took * (cost - spent) / spent if spent >= KNOWN * cost else None
        self._report(Progress(f"training {label}", round(done), round(steps), seconds_left=left))
