"""The turn of an example under attack: the next step after all its questions are answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Answer, Attack, BudgetExhausted, Gradients, Losses, Question, Scores
from robustness.engine.calls import Wanted
from robustness.engine.evaluation import NOT_FINITE
from robustness.engine.failures.crashes import Crash
from robustness.engine.failures.watchdog import SearchTimeout, Watchdog
from robustness.engine.named_attack import NamedAttack
from robustness.engine.needs import needs_of
from robustness.engine.outcome import Answered, Outcome, Problem, Status
from robustness.engine.questions import candidates_of, check_question
from robustness.engine.referee import check_proposal, judge
from robustness.engine.respondents import Respondent
from robustness.engine.seats import Seat
from robustness.engine.seeding import example_generator
from robustness.errors import AttackError
from robustness.tasks.grading import Grader, Rows
from robustness.testsets.example import Example

if TYPE_CHECKING:
    from robustness.victims.heads.text_gradients import TextGradient

MAX_SECONDS = 300.0
"""Far more than any shipped recipe needs for a long text; only an endless attack reaches it."""

MAX_WORDS = 2_500
"""A search's first question may hold one text per word; longer texts would fill the memory."""


@final
class Turns:
    """Moves examples from the clean text through the search's questions to the judgement of the proposal.

    Args:
        attack: what searches, with its budget.
        respondent: the victim, which gives rows.
        seed: the run's.
        max_seconds: limit on the time of the attack's own code for one example.
    """

    def __init__(self, attack: NamedAttack, respondent: Respondent, seed: int, max_seconds: float) -> None:
        if not isinstance(attack.attack, Attack):
            raise AttackError(f"attack {attack.name}: has no search(example, rng); the scheduler runs searches alone")
        self._attack = attack
        self._searching = attack.attack
        self._access = attack.attack.access
        self._needs = needs_of(attack.attack)
        self._respondent = respondent
        self._seed = seed
        self._max_seconds = max_seconds

    def advance(self, seat: Seat, watchdog: Watchdog) -> Outcome | None:
        """Moves a seat one step on; returns the outcome when it is finished."""
        started = time.perf_counter()
        try:
            with watchdog.limit(self._max_seconds - seat.search_seconds):
                outcome = self._step(seat)
        except SearchTimeout:
            outcome = self._ended(seat, f"the attack took more than {self._max_seconds:g} seconds for this example")
        except Exception as error:  # a user's attack may raise anything; the row holds it
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
                seat.search = self._searching.search(seat.example, rng)
                question = next(seat.search)
            else:
                question = seat.search.send(self._answer(seat, rows))
            self._ask(seat, question)
        except StopIteration as stop:
            seat.asked = [check_proposal(seat.example, stop.value)]
            seat.is_judgement = True
        return None

    def _answer(self, seat: Seat, rows: Rows) -> Answer | Sequence[TextGradient]:
        """The answer to the search's question."""
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
        """Charges a question, or ends the search if the budget does not cover it (raises StopIteration)."""
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
        """Grades the clean text; returns an outcome if the example cannot or need not be attacked."""
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
        """The outcome without a proposal: a problem, or a wrong answer to the clean text."""
        ended = Status.SKIPPED if problem is None else Problem(problem)
        gold = self._respondent.grader.gold(seat.example)
        return Outcome.of(seat.example, gold, ended, clean=Answered(seat.example, seat.clean), spent=seat.spent)


def _problem(example: Example, grader: Grader) -> str | None:
    """Why an example cannot be attacked, or None."""
    if len(example.words) > MAX_WORDS:
        return f"{len(example.words)} words are too many to attack: at most {MAX_WORDS:,}; shorten the text"
    return grader.problem(example)
