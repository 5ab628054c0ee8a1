"""The example-parallel scheduler: many searches side by side, their questions answered in shared batches.

Every example under attack has a seat. All seats put their questions into one queue. As soon as a batch of texts is
waiting there, the victim gets it. A seat moves on when its own questions are answered, even if others still wait.
Gradient questions wait at a separate desk until no scores are due. An asynchronous victim (a GPU) gets the next batch
before it has answered the last; meanwhile searches run. Only the examples decide which texts share a batch, never the
clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import final

import numpy as np

from robustness.engine.attack import Access, NamedAttack
from robustness.engine.calls import Call, Calls, Part, Wanted
from robustness.engine.crashes import Crashes
from robustness.engine.gradient_desk import GradientAccount, answer_gradients
from robustness.engine.label_scores import as_respondent
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.questions import QueryCount
from robustness.engine.referee import contradicts
from robustness.engine.respondents import DecodingRespondent, ReadingScorer, Respondent, Scorer
from robustness.engine.seats import Seat
from robustness.engine.turns import MAX_SECONDS, Turns
from robustness.engine.watchdog import Watchdog
from robustness.tasks.grading import Rows
from robustness.testsets.example import Example, digest_texts
from robustness.victims.isolation import Fault

WIDTH = 256
"""Maximum of examples attacked side by side; an interrupted run loses these."""

CUDA_WIDTH = 1_024
"""The same on a GPU, which needs many searches, because each asks about few texts at a time."""

BATCH_TEXTS = 2_048
"""Texts sent to a victim at once; it sorts them by length and forms its own batches."""

CALLS = 2
"""Batches that a victim has at a time: one in work and one waiting."""

_Started = tuple[list[Seat], Call]
"""A call, and the seat of each of its parts."""


@final
class Scheduler:
    """Attacks examples with one attack on one victim.

    Args:
        attack: what to run, with its budget.
        victim: gives rows, which its grader reads.
        seed: the run's seed.
        width: examples side by side; outcomes do not depend on it.
        batch: texts handed to the victim at once; outcomes do not depend on it.
        max_seconds: limit on the time of the attack's own code for one example; beyond it the example is errored.
        cache: stores this victim's earlier answers, also to other searches; it is never used for a judgement.
    """

    def __init__(
        self,
        attack: NamedAttack,
        victim: Respondent | Scorer,
        *,
        seed: int,
        width: int = WIDTH,
        batch: int = BATCH_TEXTS,
        max_seconds: float = MAX_SECONDS,
        cache: QueryCache | None = None,
    ) -> None:
        self._attack = attack
        self._victim = victim
        self._respondent = as_respondent(victim)
        self._decodes = isinstance(self._respondent, DecodingRespondent)
        self._read = victim.read if isinstance(victim, ReadingScorer) else None
        self._width = width
        self._batch = batch
        self._cache = cache
        self._access = attack.attack.access
        self._calls = Calls(self._respondent)
        self._turns = Turns(attack, self._respondent, seed, max_seconds)
        self.contradicted: set[str] = set()
        """Digests of texts that got another label in the judgement than in the search."""

    def run(self, examples: Iterable[Example]) -> Iterator[Outcome]:
        """Yields one outcome for each example as soon as it is judged.

        Raises:
            AttackError: the attack fails on three examples in a row; their outcomes are yielded first.
        """
        coming = enumerate(examples)
        crashes = Crashes(self._attack.name)
        taken = 0
        queue: deque[tuple[Seat, Example]] = deque()
        calls: deque[_Started] = deque()
        ready: list[Seat] = []
        at_desk: list[Seat] = []
        with Watchdog() as watchdog:
            while True:
                while taken < self._width and len(queue) < self._batch and (given := next(coming, None)):
                    taken += 1
                    ready += self._enqueue(self._seat(*given), queue)
                if not taken:
                    return
                while len(calls) < CALLS and (len(queue) >= self._batch or (queue and not calls)):
                    calls.append(self._start(queue))
                if calls:
                    ready += self._finish(*calls.popleft())
                elif at_desk and not ready:
                    accounts = [seat.gradients for seat in at_desk if seat.gradients is not None]
                    answer_gradients(self._victim, accounts, self._attack.objective)
                    ready = [seat for seat in at_desk if not seat.waits_for_gradients]
                    at_desk = [seat for seat in at_desk if seat.waits_for_gradients]
                moving, ready = ready, []
                for seat in moving:
                    outcome = self._turns.advance(seat, watchdog)
                    if outcome is not None:
                        taken -= 1
                        yield outcome
                        crashes.add(seat.place, seat.crash or outcome.status in (Status.SUCCEEDED, Status.FAILED))
                    elif seat.waits_for_gradients:
                        at_desk.append(seat)
                    else:
                        ready += self._enqueue(seat, queue)

    def _seat(self, place: int, example: Example) -> Seat:
        account = GradientAccount() if self._access is Access.GRADIENTS else None
        return Seat(example, [example], QueryCount(example.texts), self._decodes, gradients=account, place=place)

    def _enqueue(self, seat: Seat, queue: deque[tuple[Seat, Example]]) -> list[Seat]:
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
        queue.extend((seat, candidate) for candidate in asked)
        seat.missing = len(asked)
        return [] if asked else [seat]

    def _start(self, queue: deque[tuple[Seat, Example]]) -> _Started:
        """Sends the first batch of the queue to the victim."""
        seats: list[Seat] = []
        parts: list[Part] = []
        for _ in range(min(self._batch, len(queue))):
            seat, candidate = queue.popleft()
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
                    self.contradicted.add(digest_texts(texts))
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
