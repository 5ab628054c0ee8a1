"""From a victim and an attack to outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from robustness.engine.evaluation import evaluate
from robustness.engine.failures.faults import isolate_outcomes
from robustness.engine.named_attack import GradientAttack, NamedAttack
from robustness.engine.outcome import Outcome
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import CUDA_WIDTH, WIDTH, Scheduler
from robustness.runs.cells import Cell
from robustness.testsets.example import Example
from robustness.victims.heads.head import Head


@dataclass(frozen=True, slots=True)
class Work:
    """A cell, or a shard of one, with the examples without outcomes."""

    cell: Cell
    examples: tuple[Example, ...]


def find_outcomes(
    victim: Head, cache: QueryCache | None, attack: NamedAttack | None, examples: Sequence[Example], seed: int
) -> Iterator[Outcome]:
    """Yields one outcome for each example, attacked or, without an attack, evaluated unchanged.

    An example on which the victim fails is errored; the others continue.

    Raises:
        VictimGoneError: the victim fails on all of them.
    """
    if attack is not None and not isinstance(attack.attack, GradientAttack):
        width = CUDA_WIDTH if victim.device.type == "cuda" else WIDTH
        return _search(Scheduler(attack, victim, seed=seed, width=width, cache=cache), victim, examples)
    return isolate_outcomes(_finder(victim, attack, seed), examples, victim.grader.gold)


def _search(scheduler: Scheduler, victim: Head, examples: Sequence[Example]) -> Iterator[Outcome]:
    try:
        yield from scheduler.run(examples)
    finally:
        victim.contradicted.update(scheduler.contradicted)


def _finder(victim: Head, attack: NamedAttack | None, seed: int) -> Callable[[Sequence[Example]], Iterator[Outcome]]:
    """Returns the function that computes outcomes without a text-by-text search."""
    if attack is None:
        return partial(evaluate, victim)
    assert isinstance(attack.attack, GradientAttack), "all others are searches"
    return partial(attack.attack.run, victim, seed=seed, digest=attack.digest)
