"""The example-parallel scheduler: many searches side by side, their questions answered in shared batches.

Every example under attack has a seat. What a seat asks joins one queue; as soon as a batch's worth of texts waits
there it is handed to the victim, and a seat moves on when all it asked is answered, whatever the others wait for.
Questions for gradients wait at a desk of their own until no scores are due.
A victim that answers later (a GPU) gets the next batch before it has answered the last: meanwhile searches run.
Which texts share a batch follows from the examples alone, never from the clock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import (
    Access,
    Answer,
    Attack,
    BudgetExhausted,
    DecodingRespondent,
    Gradients,
    Losses,
    NamedAttack,
    Question,
    ReadingScorer,
    Respondent,
    Scorer,
    Scores,
)
from robustness.engine.calls import Call, Calls, Part, Wanted
from robustness.engine.crashes import Crash, Crashes
from robustness.engine.evaluation import NOT_FINITE
from robustness.engine.gradient_desk import GradientAccount, answer_gradients
from robustness.engine.label_scores import as_respondent
from robustness.engine.needs import needs_of
from robustness.engine.outcome import Answered, Outcome, Problem, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.questions import QueryCount, candidates_of, check_question
from robustness.engine.referee import check_proposal, contradicts, judge
from robustness.engine.seats import Seat
from robustness.engine.seeding import example_generator
from robustness.engine.watchdog import SearchTimeout, Watchdog
from robustness.errors import AttackError
from robustness.tasks.grading import Grader, Rows
from robustness.testsets.example import Example, digest_texts
from robustness.victims.isolation import Fault

if TYPE_CHECKING:
    from robustness.victims.heads.text_gradients import TextGradient

WIDTH = 256
"""Examples attacked side by side, at most; what an interrupted run loses."""

CUDA_WIDTH = 1_024
"""On a GPU, which is fed only by many searches that ask about a few texts each."""

BATCH_TEXTS = 2_048
"""Texts handed to a victim at once, which sorts them by length and makes its own batches of them."""

CALLS = 2
"""Batches that a victim has at a time: one that it works on and one to go on with."""

MAX_SECONDS = 300.0
"""Far above what a shipped recipe takes for a long text; an attack that loops for ever reaches it."""

MAX_WORDS = 2_500
"""A search's first question may be as many texts as there are words: beyond this they would fill the memory."""


_Started = tuple[list[Seat], Call]
"""A call with the seat of each of its parts."""


@final
class Scheduler:
    """Attacks examples with one attack on one victim.

    Args:
        attack: what to run, with its budget.
        victim: answers with rows, which its grader reads.
        seed: the run's seed.
        width: examples side by side; outcomes do not depend on it.
        batch: texts handed to the victim at once; outcomes do not depend on it.
        max_seconds: what the attack's own code may take for one example; past it the example is errored.
        cache: answers what this victim has been asked before, by other searches too; never a judgement.
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
        if not isinstance(attack.attack, Attack):
            raise AttackError(f"attack {attack.name}: has no search(example, rng); the scheduler runs searches alone")
        self._attack = attack
        self._search_of = attack.attack.search
        self._victim = victim
        self._respondent = as_respondent(victim)
        self._decodes = isinstance(self._respondent, DecodingRespondent)
        self._read = victim.read if isinstance(victim, ReadingScorer) else None
        self._seed = seed
        self._width = width
        self._batch = batch
        self._max_seconds = max_seconds
        self._cache = cache
        self._access = attack.attack.access
        self._needs = needs_of(attack.attack)
        self._calls = Calls(self._respondent)
        self.contradicted: set[str] = set()
        """Digests of the texts whose label was another one when they were judged than when they were searched."""

    def run(self, examples: Iterable[Example]) -> Iterator[Outcome]:
        """Yields one outcome for each example as soon as it is judged, in the order in which they end.

        Raises:
            AttackError: the attack fails on three examples in a row; their outcomes come before.
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
                    outcome = self._advance(seat, watchdog)
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
        """Queues what the seat must have scored; returns the seat if that is nothing."""
        if self._read is not None:
            new = [text for text in dict.fromkeys(c.texts for c in seat.asked) if text not in seat.readings]
            with suppress(Exception):  # what cannot be read fails again where it is scored, and is told apart there
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
        """Hands the victim the first batch of the queue."""
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
        """Waits for a call and books its scores, or why there are none; returns the seats that can go on."""
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

    def _advance(self, seat: Seat, watchdog: Watchdog) -> Outcome | None:
        """Takes a seat one step on; returns the outcome when it is done."""
        started = time.perf_counter()
        try:
            with watchdog.limit(self._max_seconds - seat.search_seconds):
                outcome = self._step(seat)
        except SearchTimeout:
            outcome = self._ended(seat, f"the attack took more than {self._max_seconds:g} seconds for this example")
        except Exception as error:  # a user's attack may raise anything; the run goes on and the row says what
            seat.crash = Crash(seat.example, error)
            outcome = self._ended(seat, f"{type(error).__name__}: {error}")
        elapsed = time.perf_counter() - started
        seat.seconds += elapsed
        seat.search_seconds += elapsed
        return outcome

    def _step(self, seat: Seat) -> Outcome | None:
        if seat.fault is not None:
            return self._ended(seat, seat.fault.reason)
        rows = seat.rows()
        if not np.isfinite(rows).all():
            return self._ended(seat, NOT_FINITE)
        if seat.is_judgement:
            return self._judged(seat, rows[0])
        if seat.search is None and (ended := self._refuse(seat, rows[0])):
            return ended
        try:
            if seat.search is None:
                rng = example_generator(self._seed, self._attack.digest, seat.example.id)
                seat.search = self._search_of(seat.example, rng)
                question = next(seat.search)
            else:
                question = seat.search.send(self._answer(seat, rows))
            self._ask(seat, question)
        except StopIteration as stop:
            seat.asked = [check_proposal(seat.example, stop.value)]
            seat.is_judgement = True
        return None

    def _answer(self, seat: Seat, rows: Rows) -> Answer | Sequence[TextGradient]:
        """What the search is told of what it asked."""
        if seat.gradients is not None and isinstance(seat.question, Gradients):
            gradients = seat.gradients.take()
            if any(np.isnan(gradient.loss) for gradient in gradients):
                raise AttackError(NOT_FINITE)
            return gradients
        losses = self._respondent.grader.losses(rows, seat.asked)
        if seat.wanted is Wanted.LOSS_ROWS:
            return Answer(losses)
        reached = self._attack.objective.reached(self._respondent.grader.correct(rows, seat.asked))
        if isinstance(seat.question, Losses):
            return Answer(losses, free_reached=reached)
        return Answer(losses, reached, rows if isinstance(seat.question, Scores) else None, reached)

    def _ask(self, seat: Seat, question: Question) -> None:
        """Books a question, or ends the search when its budget cannot pay for it (raises StopIteration)."""
        check_question(question, seat.example, self._access, self._needs, self._respondent.can)
        budget = self._attack.max_queries
        if seat.count.charge(question, budget):
            seat.question, seat.asked = question, list(candidates_of(question))
            if seat.gradients is not None and isinstance(question, Gradients):
                seat.asked, seat.gradients.question = [], question
            return
        assert seat.search is not None, "only a search asks"
        try:
            seat.search.throw(BudgetExhausted(f"{budget} queries are spent"))
        except BudgetExhausted:
            raise StopIteration(seat.example) from None
        raise AttackError("asked again after its budget was exhausted; return the best candidate instead")

    def _refuse(self, seat: Seat, row: NDArray[np.float32]) -> Outcome | None:
        """Grades the clean text; the outcome of an example that cannot be attacked, or need not."""
        grader = self._respondent.grader
        if problem := _problem(seat.example, grader):
            return self._ended(seat, problem)
        seat.clean = grader.grade(row, seat.example)
        return None if seat.clean.correct else self._ended(seat)

    def _judged(self, seat: Seat, row: NDArray[np.float32]) -> Outcome:
        assert seat.clean is not None, "a judged example had its clean text scored"
        grader, objective = self._respondent.grader, self._attack.objective
        grades, gold = (seat.clean, grader.grade(row, seat.asked[0])), grader.gold(seat.example)
        return judge(seat.example, seat.asked[0], grades, gold=gold, objective=objective, spent=seat.spent)

    def _ended(self, seat: Seat, problem: str | None = None) -> Outcome:
        """Without a proposal: a problem, or a clean text that is answered wrongly."""
        ended = Status.SKIPPED if problem is None else Problem(problem)
        gold = self._respondent.grader.gold(seat.example)
        return Outcome.of(seat.example, gold, ended, clean=Answered(seat.example, seat.clean), spent=seat.spent)


def _problem(example: Example, grader: Grader) -> str | None:
    """Why an example cannot be attacked, or None."""
    if len(example.words) > MAX_WORDS:
        return f"{len(example.words)} words are too many to attack: at most {MAX_WORDS:,}; shorten the text"
    return grader.problem(example)
