"""The protocol of executors: missing cells go in, outcomes come out at the sink."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustness.engine.answers import evaluate_answers
from robustness.engine.attack import AnswerAttack, GradientAttack, NamedAttack
from robustness.engine.evaluation import evaluate_examples
from robustness.engine.outcome import Outcome
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import CUDA_WIDTH, WIDTH, Scheduler
from robustness.errors import UsageError
from robustness.runs.plan import Cell
from robustness.runs.sink import Sink
from robustness.testsets.example import Example
from robustness.victims.answering import AnsweringVictim
from robustness.victims.kinds import AnyVictim
from robustness.victims.victim import Victim


@dataclass(frozen=True, slots=True)
class Work:
    """A cell, or a shard of one, with the examples whose outcomes are missing."""

    cell: Cell
    examples: tuple[Example, ...]


class Executor(Protocol):
    """Computes outcomes. What comes of an example depends on the run's settings, never on the executor."""

    def run(self, missing: Sequence[Work], sink: Sink) -> list[str]:
        """Gives the sink one outcome for every missing example; returns what is doubtful about the victims.

        Raises:
            RobustnessError: a checkpoint, an attack or a worker that cannot be had.
        """
        ...


def find_outcomes(
    victim: AnyVictim, cache: QueryCache | None, attack: NamedAttack | None, examples: Sequence[Example], seed: int
) -> Iterator[Outcome]:
    """Yields one outcome for each example, attacked or, without an attack, evaluated as it stands.

    Raises:
        UsageError: an attack that the victim has no means for.
    """
    if isinstance(victim, AnsweringVictim):
        if attack is None:
            return evaluate_answers(victim, examples)
        assert isinstance(attack.attack, AnswerAttack), "the plan gives questions to attacks on answers alone"
        return attack.attack.run_answers(victim, examples, seed=seed, digest=attack.digest)
    if attack is None:
        return evaluate_examples(victim, examples)
    if isinstance(attack.attack, GradientAttack):
        if not isinstance(victim, Victim):
            raise UsageError(
                f"attack {attack.name}: needs gradients of a classification head, which a prompted language model "
                "does not have; leave the attack out"
            )
        return attack.attack.run(victim, examples, seed=seed, digest=attack.digest)
    width = CUDA_WIDTH if victim.device.type == "cuda" else WIDTH
    return Scheduler(attack, victim, seed=seed, width=width, cache=cache).run(examples)
