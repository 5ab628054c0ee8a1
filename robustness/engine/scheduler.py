"""The example-parallel scheduler: many searches side by side, their questions answered in shared batches.

Every example under attack has a seat. All seats put their questions into one queue. As soon as a batch of texts is
waiting there, the victim gets it. A seat moves on when its own questions are answered, even if others still wait.
Gradient questions wait at a separate desk until no scores are due. An asynchronous victim (a GPU) gets the next batch
before it has answered the last; meanwhile searches run. Only the examples decide which texts share a batch, never the
clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from robustness.engine.attack import Access
from robustness.engine.failures.crashes import Crashes
from robustness.engine.failures.watchdog import Watchdog
from robustness.engine.gradient_desk import GradientAccount, answer_gradients
from robustness.engine.label_scores import as_respondent
from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome, Status
from robustness.engine.query_cache import QueryCache
from robustness.engine.questions import QueryCount
from robustness.engine.respondents import DecodingRespondent, Respondent, Scorer
from robustness.engine.seats import Seat
from robustness.engine.text_queue import TextQueue
from robustness.engine.turns import MAX_SECONDS, Turns
from robustness.testsets.example import Example

WIDTH = 256
"""Maximum of examples attacked side by side; an interrupted run loses these."""

CUDA_WIDTH = 1_024
"""The same on a GPU, which needs many searches, because each asks about few texts at a time."""

BATCH_TEXTS = 2_048
"""Texts sent to a victim at once; it sorts them by length and forms its own batches."""


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
        self._width = width
        self._batch = batch
        self._cache = cache
        self._access = attack.attack.access
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
        queue = TextQueue(self._victim, self._respondent, self._batch, self._cache, self.contradicted)
        taken = 0
        ready: list[Seat] = []
        at_desk: list[Seat] = []
        with Watchdog() as watchdog:
            while True:
                while taken < self._width and not queue.is_full and (given := next(coming, None)):
                    taken += 1
                    ready += queue.add(self._seat(*given))
                if not taken:
                    return
                if not queue.is_empty:
                    ready += queue.answers()
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
                        ready += queue.add(seat)

    def _seat(self, place: int, example: Example) -> Seat:
        account = GradientAccount() if self._access is Access.GRADIENTS else None
        return Seat(example, [example], QueryCount(example.texts), self._decodes, gradients=account, place=place)
