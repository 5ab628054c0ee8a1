"""The example-parallel scheduler: many searches side by side, their questions answered in shared batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import (
    Access,
    AskGradients,
    Attack,
    BudgetExhausted,
    NamedAttack,
    Question,
    Scorer,
    Search,
)
from robustness.engine.gradient_desk import GradientAccount, answer_gradients
from robustness.engine.outcome import Outcome, Status
from robustness.engine.referee import check_proposal, judge, refuse_broken_text, true_label_probability
from robustness.engine.seeding import example_generator
from robustness.engine.watchdog import SearchTimeout, Watchdog
from robustness.errors import AttackError
from robustness.testsets.example import Example, Texts

WIDTH = 256
"""Examples attacked side by side."""

MAX_SECONDS = 300.0
"""Far above what a shipped recipe takes for a long text; an attack that loops for ever reaches it."""


@dataclass(slots=True)
class _Seat:
    """One example under attack: the clean text is scored, then the search asks, then its proposal is judged."""

    example: Example
    asked: Sequence[Example]
    """What waits for scores: the clean example, then the search's questions, at last its proposal."""
    search: Search | None = None
    is_judgement: bool = False
    known: dict[Texts, NDArray[np.float32]] = field(default_factory=dict)
    clean_scores: NDArray[np.float32] | None = None
    queries: int = 0
    forwards: int = 0
    seconds: float = 0.0
    search_seconds: float = 0.0
    """The part of it that the attack's own code took."""
    gradients: GradientAccount | None = None
    """Where the attack has access to gradients."""

    def unanswered(self) -> list[Texts]:
        """Texts that must run through the model; a judgement never comes from the cache."""
        if self.is_judgement:
            return [self.asked[0].texts]
        return [texts for texts in dict.fromkeys(c.texts for c in self.asked) if texts not in self.known]


@final
class Scheduler:
    """Attacks examples with one attack on one victim.

    Args:
        attack: what to run, with its budget.
        victim: answers with logits.
        seed: the run's seed.
        width: examples side by side; results do not depend on it.
        max_seconds: what the attack's own code may take for one example; past it the example is errored.
    """

    def __init__(
        self,
        attack: NamedAttack,
        victim: Scorer,
        *,
        seed: int,
        width: int = WIDTH,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        if not isinstance(attack.attack, Attack):
            raise AttackError(f"attack {attack.name}: has no search(example, rng); the scheduler runs searches alone")
        self._attack = attack
        self._search_of = attack.attack.search
        self._victim = victim
        self._seed = seed
        self._width = width
        self._max_seconds = max_seconds
        self._is_white_box = attack.attack.access is Access.GRADIENTS

    def run(self, examples: Iterable[Example]) -> Iterator[Outcome]:
        """Yields one outcome for each example as soon as it is judged, in the order in which they end."""
        waiting = iter(examples)
        seats: list[_Seat] = []
        with Watchdog() as watchdog:
            while True:
                seats += [self._seat(example) for example in islice(waiting, self._width - len(seats))]
                if not seats:
                    return
                self._answer(seats)
                going_on = []
                for seat in seats:
                    outcome = self._advance(seat, watchdog)
                    if outcome is None:
                        going_on.append(seat)
                    else:
                        yield outcome
                seats = going_on

    def _seat(self, example: Example) -> _Seat:
        return _Seat(example, [example], gradients=GradientAccount() if self._is_white_box else None)

    def _answer(self, seats: Sequence[_Seat]) -> None:
        """Scores everything the seats wait for in one go and books it to them; gradients likewise."""
        answer_gradients(self._victim, [seat.gradients for seat in seats if seat.gradients is not None])
        texts = [(seat, text) for seat in seats for text in seat.unanswered()]
        if not texts:
            return
        started = time.perf_counter()
        rows = self._victim.scores([text for _, text in texts])
        each = (time.perf_counter() - started) / len(texts)
        for (seat, text), row in zip(texts, rows, strict=True):
            seat.known[text] = row
            seat.forwards += 1
            seat.seconds += each

    def _advance(self, seat: _Seat, watchdog: Watchdog) -> Outcome | None:
        """Takes a seat one step on; returns the outcome when it is done."""
        if seat.gradients is not None and seat.gradients.is_waiting:
            return None
        started = time.perf_counter()
        try:
            with watchdog.limit(self._max_seconds - seat.search_seconds):
                outcome = self._step(seat)
        except SearchTimeout:
            outcome = _errored(seat, f"the attack took more than {self._max_seconds:g} seconds for this example")
        except Exception as error:  # a user's attack may raise anything; the run goes on and the row says what
            outcome = _errored(seat, f"{type(error).__name__}: {error}")
        elapsed = time.perf_counter() - started
        seat.seconds += elapsed
        seat.search_seconds += elapsed
        return outcome

    def _step(self, seat: _Seat) -> Outcome | None:
        rows = [seat.known[candidate.texts] for candidate in seat.asked]
        if any(not np.isfinite(row).all() for row in rows):
            return _errored(seat, "the victim's scores are not finite")
        if seat.is_judgement:
            return self._judged(seat, rows[0])
        try:
            if seat.search is None:
                seat.clean_scores = rows[0]
                if int(rows[0].argmax()) != seat.example.label:
                    return _skipped(seat, rows[0])
                rng = example_generator(self._seed, self._attack.digest, seat.example.id)
                seat.search = self._search_of(seat.example, rng)
                question = next(seat.search)
            else:
                question = self._send(seat, rows)
            self._ask(seat, question)
        except StopIteration as stop:
            seat.asked = [check_proposal(seat.example, stop.value)]
            seat.is_judgement = True
        return None

    def _send(self, seat: _Seat, rows: Sequence[NDArray[np.float32]]) -> Question:
        """Hands the search the answer it waits for; returns its next question."""
        assert seat.search is not None, "only a search has asked"
        if seat.gradients is None or seat.gradients.question is None:
            return seat.search.send(np.stack(rows))
        answer = seat.gradients.take()
        if any(not np.isfinite(gradient.scores).all() for gradient in answer):
            raise AttackError("the victim's scores are not finite")
        return seat.search.send(answer)  # type: ignore[arg-type]  # ask_gradients casts it back

    def _ask(self, seat: _Seat, asked: Question) -> None:
        """Books a question, or ends the search when its budget cannot pay for it (raises StopIteration)."""
        question = asked.candidates if isinstance(asked, AskGradients) else asked
        if isinstance(asked, AskGradients) and seat.gradients is None:
            raise AttackError("asked for gradients; its access is scores: set access = Access.GRADIENTS in the class")
        if not isinstance(question, Sequence) or not all(isinstance(c, Example) for c in question):
            raise AttackError(f"yielded {type(question).__name__}; expected a list of Examples")
        if not question:
            raise AttackError("yielded an empty list; ask about at least one candidate")
        for candidate in question:
            refuse_broken_text(seat.example, candidate)
        budget = self._attack.max_queries
        queries = seat.queries + sum(candidate.texts != seat.example.texts for candidate in question)
        if budget is None or queries <= budget:
            seat.queries = queries
            if seat.gradients is not None and isinstance(asked, AskGradients):
                seat.asked, seat.gradients.question = [], asked
            else:
                seat.asked = list(question)
            return
        assert seat.search is not None, "only a search asks"
        try:
            seat.search.throw(BudgetExhausted(f"{budget} queries are spent"))
        except BudgetExhausted:
            raise StopIteration(seat.example) from None
        raise AttackError("asked again after its budget was exhausted; return the best candidate instead")

    def _judged(self, seat: _Seat, fresh: NDArray[np.float32]) -> Outcome:
        assert seat.clean_scores is not None, "a judged example had its clean text scored"
        outcome = judge(
            seat.example,
            seat.asked[0],
            seat.clean_scores,
            fresh,
            queries=seat.queries,
            forwards=seat.forwards,
            seconds=seat.seconds,
        )
        return _with_gradients(seat, outcome)


def _skipped(seat: _Seat, scores: NDArray[np.float32]) -> Outcome:
    blank = _without_proposal(seat, Status.SKIPPED)
    probability = true_label_probability(scores, seat.example.label)
    return replace(blank, clean_score=probability)


def _errored(seat: _Seat, reason: str) -> Outcome:
    return replace(_without_proposal(seat, Status.ERRORED), error=reason.encode("utf-8", "backslashreplace").decode())


def _with_gradients(seat: _Seat, outcome: Outcome) -> Outcome:
    """The outcome with what the search's gradients have cost."""
    cost = seat.gradients
    if cost is None:
        return outcome
    return replace(
        outcome,
        forwards=outcome.forwards + cost.forwards,
        seconds=outcome.seconds + cost.seconds,
        backwards=cost.backwards,
        zero_gradients=cost.zero_gradients,
    )


def _without_proposal(seat: _Seat, status: Status) -> Outcome:
    example = seat.example
    outcome = Outcome(
        example_id=example.id,
        group_id=example.group,
        label=example.label,
        status=status,
        clean_prediction=None if seat.clean_scores is None else int(seat.clean_scores.argmax()),
        adversarial_prediction=None,
        clean_score=None,
        score=None,
        queries=seat.queries,
        forwards=seat.forwards,
        modified_words=None,
        modified_share=None,
        similarity=None,
        seconds=seat.seconds,
        original_text=example.texts,
        adversarial_text=None,
    )
    return _with_gradients(seat, outcome)
