"""The queue of texts that wait for the victim, and the batches that it works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import final

import numpy as np

from robustness.engine.calls import Call, Calls, Part, Wanted
from robustness.engine.query_cache import QueryCache
from robustness.engine.referee import contradicts
from robustness.engine.respondents import ReadingScorer, Respondent, Scorer
from robustness.engine.seats import Seat
from robustness.tasks.grading import Rows
from robustness.testsets.example import Example, digest_texts
from robustness.victims.isolation import Fault

CALLS = 2
"""Batches that a victim has at a time: one in work and one waiting."""

_Started = tuple[list[Seat], Call]
"""A call, and the seat of each of its parts."""


@final
class TextQueue:
    """Collects the texts of many seats, and asks the victim about them in batches.

    Args:
        victim: as the run has it; one that reads texts tells which of them are the same input.
        respondent: the same, which gives rows.
        batch: texts handed over at once.
        cache: stores earlier answers; it is never used for a judgement.
        contradicted: gets the digests of texts whose label in the judgement is another than in the search.
    """

    def __init__(
        self,
        victim: Respondent | Scorer,
        respondent: Respondent,
        batch: int,
        cache: QueryCache | None,
        contradicted: set[str],
    ) -> None:
        self._read = victim.read if isinstance(victim, ReadingScorer) else None
        self._respondent = respondent
        self._calls = Calls(respondent)
        self._batch = batch
        self._cache = cache
        self._waiting: deque[tuple[Seat, Example]] = deque()
        self._started: deque[_Started] = deque()
        self._contradicted = contradicted

    @property
    def is_full(self) -> bool:
        """Whether a batch's worth of texts waits."""
        return len(self._waiting) >= self._batch

    @property
    def is_empty(self) -> bool:
        """Whether no text waits, and the victim works on none."""
        return not self._waiting and not self._started

    def add(self, seat: Seat) -> list[Seat]:
        """Queues the texts that the seat needs; returns the seat if there are none."""
        if self._read is not None:
            new = [text for text in dict.fromkeys(c.texts for c in seat.asked) if text not in seat.readings]
            with suppress(Exception):  # an unreadable text fails again when scored, with its example
                seat.readings |= zip(new, self._read(new), strict=True)
        asked = seat.unanswered()
        if self._cache is not None and not seat.is_judgement:
            for losses in (False, True) if seat.wanted is Wanted.LOSS_ROWS else (False,):
                known = zip(asked, self._cache.find(asked, losses=losses), strict=True)
                found = {candidate: row for candidate, row in known if row is not None}
                seat.keep(list(found), list(found.values()), losses=losses)
                asked = seat.unanswered()
        self._waiting.extend((seat, candidate) for candidate in asked)
        seat.missing = len(asked)
        return [] if asked else [seat]

    def answers(self) -> list[Seat]:
        """Sends batches to the victim, then waits for the oldest; returns the seats that can move on."""
        while len(self._started) < CALLS and (self.is_full or (self._waiting and not self._started)):
            self._started.append(self._start())
        return self._finish(*self._started.popleft()) if self._started else []

    def _start(self) -> _Started:
        """Sends the first batch of the queue to the victim."""
        seats: list[Seat] = []
        parts: list[Part] = []
        for _ in range(min(self._batch, len(self._waiting))):
            seat, candidate = self._waiting.popleft()
            if not seats or seats[-1] is not seat:
                seats.append(seat)
                parts.append(seat.begin_part())
            seat.add_to(parts[-1], candidate)
        return seats, self._calls.start(parts)

    def _finish(self, seats: Sequence[Seat], call: Call) -> list[Seat]:
        """Waits for a call and records its scores or errors; returns the seats that can move on."""
        found, each = self._calls.finish(call)
        for seat, part, answer in zip(seats, call.parts, found, strict=True):
            seat.seconds += each * len(part.asked)
            seat.missing -= len(part.asked)
            if isinstance(answer, Fault):
                seat.fault = answer
                continue
            seat.forwards += len(part.asked)
            seat.generated += map(self._respondent.grader.generated, answer)
            if seat.is_judgement:
                texts = part.asked[0].texts
                if contradicts(self._respondent.grader, seat.asked[0], seat.known.get(seat.key(texts)), answer[0]):
                    self._contradicted.add(digest_texts(texts))
            seat.keep(part.asked, answer, losses=part.wanted is Wanted.LOSS_ROWS)
        if self._cache is not None:
            self._remember(call.parts, found, self._cache)
        return [seat for seat in seats if not seat.missing]

    @staticmethod
    def _remember(parts: Sequence[Part], found: Sequence[Rows | Fault], cache: QueryCache) -> None:
        for losses in (False, True):
            kept = [
                (part.asked, rows)
                for part, rows in zip(parts, found, strict=True)
                if not isinstance(rows, Fault) and (part.wanted is Wanted.LOSS_ROWS) is losses
            ]
            if kept:
                asked = [candidate for some, _ in kept for candidate in some]
                cache.add(asked, np.concatenate([rows for _, rows in kept]), losses=losses)
