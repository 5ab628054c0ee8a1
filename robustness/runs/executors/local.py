"""The local executor: one cell after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import final

from robustness.engine.named_attack import NamedAttack
from robustness.errors import RunError
from robustness.runs.arms import Arms
from robustness.runs.executors.executor import Work, find_outcomes
from robustness.runs.storage.sink import Sink, gather
from robustness.victims.isolation import VictimGoneError


@final
class LocalExecutor:
    """Loads each checkpoint once.

    Args:
        arms: loads them.
        attacks: of the run.
        seed: of all searches.
    """

    def __init__(self, arms: Arms, attacks: Sequence[NamedAttack], seed: int) -> None:
        self._arms = arms
        self._attacks = {attack.name: attack for attack in attacks}
        self._seed = seed

    def run(self, missing: Sequence[Work], sink: Sink) -> list[str]:
        """Computes cells in the order given.

        Raises:
            RunError: the victim fails on every example; earlier outcomes are stored.
        """
        for checkpoint, cells in groupby(missing, key=lambda work: work.cell.checkpoint):
            victim, cache = self._arms.load(checkpoint)
            for work in cells:
                sink.begin(work.cell, len(work.examples))
                attack = self._attacks.get(work.cell.attack)
                outcomes = find_outcomes(victim, cache, attack, work.examples, self._seed)
                try:
                    for found in gather(outcomes):
                        sink.add(work.cell, found, victim.truncated)
                except VictimGoneError as error:
                    cell = f"{work.cell.checkpoint} | {work.cell.testset} | {work.cell.attack}"
                    raise RunError(
                        f"{cell}: {error}; the checkpoint, its device or the attack is at fault, not an example: "
                        "mend it, and the same command resumes this run"
                    ) from error
        return []
