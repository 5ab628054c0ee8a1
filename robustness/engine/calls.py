"""Calls: what is asked about many examples, handed to a victim together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import final

from robustness.engine.attack import Respondent, StartingRespondent
from robustness.errors import RobustnessError
from robustness.tasks.grading import Rows
from robustness.testsets.example import Example
from robustness.victims.isolation import Fault, Isolation


@dataclass(frozen=True, slots=True)
class Part:
    """What one example has in a call."""

    group: str
    """Of the example."""
    asked: list[Example] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Call:
    """What the victim works on."""

    parts: Sequence[Part]
    collect: Callable[[], Rows]
    """Waits for the rows of all that is asked."""
    seconds: float
    """The time it took to hand them over."""


@final
class Calls:
    """Hands examples to a victim, and where it fails finds the examples at fault."""

    def __init__(self, victim: Respondent) -> None:
        self._victim = victim
        self._isolation = Isolation()

    def start(self, parts: Sequence[Part]) -> Call:
        """Hands the victim examples; one that answers later may be handed more before it has answered."""
        asked = _asked_in(parts)
        started = time.perf_counter()
        try:
            collect = self._begin(asked)
        except RobustnessError:
            raise
        except Exception:  # they are asked about once more when they are waited for, and then in halves
            collect = partial(self._victim.rows, asked)
        return Call(parts, collect, time.perf_counter() - started)

    def finish(self, call: Call) -> tuple[list[Rows | Fault], float]:
        """Waits for a call; returns for each part its rows or why there are none, and the seconds a text took.

        Raises:
            RobustnessError, VictimGoneError: see `Isolation.ask`.
        """
        whole = dict(enumerate(call.parts))

        def answer(some: Mapping[int, Part]) -> Iterator[tuple[int, Rows]]:
            asked = _asked_in(some.values())
            rows = call.collect() if len(some) == len(whole) else self._victim.rows(asked)
            if len(rows) != len(asked):
                raise ValueError(f"the victim gave {len(rows)} rows of scores for {len(asked)} texts")
            end = 0
            for place, part in some.items():
                start, end = end, end + len(part.asked)
                yield place, rows[start:end]

        started = time.perf_counter()
        found = dict(self._isolation.ask(answer, whole, lambda part: part.group))
        seconds = call.seconds + time.perf_counter() - started
        return [found[place] for place in whole], seconds / sum(len(part.asked) for part in call.parts)

    def _begin(self, asked: Sequence[Example]) -> Callable[[], Rows]:
        if isinstance(self._victim, StartingRespondent):
            return self._victim.start(asked)
        rows = self._victim.rows(asked)
        return lambda: rows


def _asked_in(parts: Iterable[Part]) -> list[Example]:
    return [example for part in parts for example in part.asked]
