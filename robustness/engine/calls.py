"""Calls: questions about many examples that are sent to a victim together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.respondents import DecodingRespondent, Respondent, StartingRespondent
from robustness.errors import RobustnessError
from robustness.tasks.grading import Rows
from robustness.testsets.example import Example
from robustness.victims.isolation import Fault, Isolation


class Wanted(StrEnum):
    """What to ask of a victim that decodes; every other victim gives rows."""

    ROWS = "rows"
    """Full decodes, which judge clean texts and proposals."""
    ROWS_ALONG = "rows-along"
    """For a search's candidates: decodes only where one forward pass over the clean response does not decide."""
    LOSS_ROWS = "loss-rows"
    """Nothing is decoded."""


@dataclass(frozen=True, slots=True)
class Part:
    """One example's share of a call."""

    group: str
    """Of the example."""
    wanted: Wanted = Wanted.ROWS
    asked: list[Example] = field(default_factory=list)
    read: list[NDArray[np.float32] | None] = field(default_factory=list)
    """Known loss rows of `asked`: one for each, or none at all."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the victim works on."""

    parts: Sequence[Part]
    collect: Callable[[], list[Rows]]
    """Waits for the rows of each part."""
    seconds: float
    """The time it took to hand them over."""


@final
class Calls:
    """Sends examples to a victim; when the victim fails, finds the examples at fault."""

    def __init__(self, victim: Respondent) -> None:
        self._victim = victim
        self._isolation = Isolation()

    def start(self, parts: Sequence[Part]) -> Call:
        """Sends examples to the victim; an asynchronous victim may get more of them before it has answered."""
        started = time.perf_counter()
        try:
            collect = self._begin(parts)
        except RobustnessError:
            raise
        except Exception:  # `wait` asks about them again, in halves
            collect = partial(self._ask, parts)
        return Call(parts, collect, time.perf_counter() - started)

    def finish(self, call: Call) -> tuple[list[Rows | Fault], float]:
        """Waits for a call; returns each part's rows or its error, and the seconds per text.

        Raises:
            RobustnessError, VictimGoneError: see `Isolation.ask`.
        """
        whole = dict(enumerate(call.parts))

        def answer(some: Mapping[int, Part]) -> Iterator[tuple[int, Rows]]:
            found = call.collect() if len(some) == len(whole) else self._ask(list(some.values()))
            yield from zip(some, found, strict=True)

        started = time.perf_counter()
        found = dict(self._isolation.ask(answer, whole, lambda part: part.group))
        seconds = call.seconds + time.perf_counter() - started
        return [found[place] for place in whole], seconds / sum(len(part.asked) for part in call.parts)

    def _begin(self, parts: Sequence[Part]) -> Callable[[], list[Rows]]:
        if isinstance(self._victim, StartingRespondent):
            collect = self._victim.start([example for part in parts for example in part.asked])
            return lambda: _split(collect(), parts)
        found = self._ask(parts)
        return lambda: found

    def _ask(self, parts: Sequence[Part]) -> list[Rows]:
        """Asks the victim once for each kind of answer; returns the rows of each part."""
        found: dict[int, Rows] = {}
        for wanted in dict.fromkeys(part.wanted for part in parts):
            some = [index for index, part in enumerate(parts) if part.wanted is wanted]
            asked = [example for index in some for example in parts[index].asked]
            rows = self._answer(wanted, asked, [row for index in some for row in parts[index].read])
            found |= zip(some, _split(rows, [parts[index] for index in some]), strict=True)
        return [found[index] for index in range(len(parts))]

    def _answer(self, wanted: Wanted, asked: Sequence[Example], read: Sequence[NDArray[np.float32] | None]) -> Rows:
        if wanted is Wanted.ROWS or not isinstance(self._victim, DecodingRespondent):
            return self._victim.rows(asked)
        return self._victim.loss_rows(asked) if wanted is Wanted.LOSS_ROWS else self._victim.rows_along(asked, read)


def _split(rows: Rows, parts: Sequence[Part]) -> list[Rows]:
    counts = [len(part.asked) for part in parts]
    if len(rows) != sum(counts):
        raise ValueError(f"the victim gave {len(rows)} rows of scores for {sum(counts)} texts")
    ends = np.cumsum(counts)
    return [rows[end - count : end] for count, end in zip(counts, ends.tolist(), strict=True)]
