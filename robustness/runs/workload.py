"""The work of a run in steps, and the expected time of the rest."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, final

from robustness.progress import CellProgress, Progress, ProgressCallback
from robustness.runs.cells import Cell, ProbeCell

CHECKING, SEARCHING = "checking the pairs", "searching distractors"


@dataclass(frozen=True, slots=True)
class Transfer:
    """The texts of one checkpoint's cell, scored on another checkpoint or on the base: one step."""

    source: Cell
    target: str


@dataclass(frozen=True, slots=True)
class DistractorSearch:
    """The search of a generated test set's distractors against one checkpoint: a step for each question."""

    checkpoint: str
    testset: str


Part: TypeAlias = Cell | ProbeCell | Transfer | DistractorSearch
"""A part of a run. A step of a cell is one example; of a probe's cell one example that it reads."""


@dataclass(frozen=True, slots=True)
class Load:
    """The amount of work of one part."""

    steps: int
    passes: float
    """Expected forward passes per step, for estimating parts that have not started."""


@final
class Workload:
    """Counts the steps of all parts of a run, and reports the current part.

    The total is the expected work. A part with an upper bound of steps gets its exact number once known. Steps of an
    earlier run count as done.

    Args:
        loads: the expected work of each part.
        report: gets the current part and the amount done.
        clock: tells seconds.
    """

    def __init__(
        self, loads: Mapping[Part, Load], report: ProgressCallback, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loads = dict(loads)
        self._report = report
        self._clock = clock
        self._done: Counter[Part] = Counter()
        self._timed: Counter[tuple[str, ...]] = Counter()
        """Steps made by this process, by kind; parts of one kind differ only in their checkpoint."""
        self._seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
        self._heard = clock()

    @property
    def done(self) -> int:
        """Steps made, by this process or an earlier one."""
        return self._done.total()

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return sum(load.steps for load in self._loads.values())

    def expect(self, part: Part, steps: int) -> None:
        """Sets the number of steps of a part."""
        self._loads[part] = replace(self._loads[part], steps=steps) if part in self._loads else Load(steps, 1.0)

    def skip(self, part: Part, steps: int | None = None) -> None:
        """Counts steps that an earlier run has made; None: all of the part."""
        self._done[part] = self._steps(part) if steps is None else steps

    def start(self, part: Part) -> None:
        """Starts a part."""
        self._tell(part, None)

    def add(self, part: Part, steps: int = 1, cell: CellProgress | None = None) -> None:
        """Counts steps made since the last call; concurrent parts share the time between calls."""
        now = self._clock()
        self._timed[_kind(part)] += steps
        self._seconds[_kind(part)] += now - self._heard
        self._heard = now
        self._done[part] += steps
        self._tell(part, cell)

    def finish(self, part: Part) -> None:
        """Counts the rest of a part's steps."""
        self.add(part, self._steps(part) - self._done[part])

    def seconds_left(self) -> float | None:
        """Returns the expected time of the rest; None before any timing.

        A part of a timed kind takes the same time per step. A part of a new kind takes the average time per forward
        pass, times its expected passes.
        """
        passes = {_kind(part): load.passes for part, load in self._loads.items()}
        timed = sum(passes.get(kind, 1.0) * steps for kind, steps in self._timed.items())
        if not timed:
            return None
        a_pass = sum(self._seconds.values()) / timed
        left = 0.0
        for part, load in self._loads.items():
            kind = _kind(part)
            a_step = self._seconds[kind] / self._timed[kind] if self._timed[kind] else load.passes * a_pass
            left += max(0, load.steps - self._done[part]) * a_step
        return left

    def _steps(self, part: Part) -> int:
        return self._loads[part].steps if part in self._loads else 0

    def _tell(self, part: Part, cell: CellProgress | None) -> None:
        self._report(Progress(name_part(part), self.done, self.total, cell, self.seconds_left()))


def count_steps(loads: Iterable[Load]) -> int:
    """Returns the steps of all together."""
    return sum(load.steps for load in loads)


def _kind(part: Part) -> tuple[str, ...]:
    """The key shared by parts that differ only in their checkpoint."""
    if isinstance(part, Transfer):
        return "transfer", part.source.testset, part.source.attack
    if isinstance(part, DistractorSearch):
        return "search", part.testset
    return ("probe", part.testset, part.probe) if isinstance(part, ProbeCell) else ("cell", part.testset, part.attack)


def name_part(part: Part) -> str:
    """Returns a part in words.

    >>> name_part(Transfer(Cell("lora", "sst2", "pwws"), "full")), name_part(ProbeCell("lora", "", "anatomy"))
    ('lora -> full | sst2 | pwws', 'lora | weights | anatomy')
    """
    if isinstance(part, Transfer):
        return f"{part.source.checkpoint} -> {part.target} | {part.source.testset} | {part.source.attack}"
    if isinstance(part, DistractorSearch):
        return f"{part.checkpoint} | {part.testset} | {SEARCHING}"
    if isinstance(part, ProbeCell):
        return f"{part.checkpoint} | {part.testset or 'weights'} | {part.probe}"
    return f"{part.checkpoint} | {part.testset} | {part.attack}"
