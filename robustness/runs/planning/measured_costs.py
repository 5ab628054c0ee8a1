"""Typical costs of attacks and probes, counted in measured runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from robustness.errors import RunError
from robustness.runs.storage.store import open_store


@dataclass(frozen=True, slots=True)
class MeasuredCost:
    """The average cost of one attack over its attacked examples."""

    forwards: float
    """Texts run through the model, including the clean text and the judgement."""
    successes: float
    """Share of the attacked examples."""
    words: float | None = None
    """Mean words of these examples; None: the cost does not grow with words."""
    backwards: float = 0.0

    def at(self, words: float) -> MeasuredCost:
        """Returns the cost for examples of this many words: proportional, except for clean text and judgement.

        >>> MeasuredCost(forwards=42, successes=0.5, words=20).at(10).forwards
        22.0
        """
        factor = words / self.words if self.words else 1.0
        forwards = 2 + (self.forwards - 2) * factor if self.forwards > 2 else self.forwards
        return MeasuredCost(forwards, self.successes, words, self.backwards * factor)


ATTACKS: Mapping[str, MeasuredCost] = {
    "a2t": MeasuredCost(12.5, 0.46, 17.42, 1),
    "apgd": MeasuredCost(72.91, 1, None, 67.36),
    "apgd-linf": MeasuredCost(14.55, 1, None, 11.18),
    "bad-characters": MeasuredCost(82.79, 0.92, 17.42),
    "cascade": MeasuredCost(21.64, 1, 20.09),
    "checklist": MeasuredCost(2.21, 0),
    "ddn": MeasuredCost(112, 1, None, 100),
    "deepwordbug": MeasuredCost(23.5, 1, 16.9),
    "fgsm": MeasuredCost(7.12, 1, None, 1.71),
    "fmn": MeasuredCost(112, 1, None, 100),
    "gbda": MeasuredCost(216.73, 1, None, 109.09),
    "genetic": MeasuredCost(455.91, 0.91, 20.09),
    "hotflip": MeasuredCost(60.29, 0.5, 17.42, 7.25),
    "hotflip-vocabulary": MeasuredCost(39.29, 0.96, 17.42, 3.92),
    "identity": MeasuredCost(2, 0),
    "input-reduction": MeasuredCost(34.88, 0.96, 17.42),
    "pgd": MeasuredCost(46.42, 1, None, 40.33),
    "pgd-linf": MeasuredCost(19.5, 1, None, 15.75),
    "pruthi": MeasuredCost(287, 0.88, 16.9),
    "pso": MeasuredCost(218.64, 1, 20.09),
    "pwws": MeasuredCost(96.4, 1, 16.9),
    "random-chars": MeasuredCost(21.83, 0.75, 17.42),
    "random-words": MeasuredCost(49.42, 0.83, 17.42),
    "stress-append": MeasuredCost(8.62, 0.58),
    "textbugger": MeasuredCost(31.67, 0.79, 17.42),
    "textfooler": MeasuredCost(28.58, 0.83, 17.42),
}
"""By recipe: means over sentences of SST-2's development set with right answers from a fully fine-tuned MiniLM-L6.

Source: tests/benchmarks/results/typical_costs.json, made by test_typical_costs.py: 24 sentences, 11 for the dearest
recipes. For `deepwordbug`, `pruthi` and `pwws` the hundred sentences of the results of these names, nine in ten of
them attacked.
"""

UNMEASURED = {"bae": "textfooler", "bert-attack": "textfooler", "best-of-n": "random-chars", "clare": "pruthi"}
"""Recipes without an own figure, with the measured recipe of the most similar cost."""

SEARCHED: Mapping[str, float] = {"addany": 295, "addanyextend": 540}
"""By generator, queries per question for test sets searched against each checkpoint.

Means of 16 questions on two MiniLM checkpoints trained on SQuAD; most took 30 to 50, the hardest 8,357, and stronger
models take more.
"""

BACKWARD = 2
"""Forward passes that a backward pass costs: gradients of activations and of weights (arXiv 2001.08361)."""


class Passes(NamedTuple):
    """Forward and backward passes."""

    forwards: float
    backwards: float

    @property
    def in_forwards(self) -> float:
        """All of them, in forward passes."""
        return self.forwards + BACKWARD * self.backwards


PROBES: Mapping[str, Passes] = {
    "adversarial-distance": Passes(220, 150),
    "condition-profile": Passes(1, 1),
    "first-order-radius": Passes(2, 4),
    "jacobian-norm": Passes(1, 2),
    "lipschitz-lower": Passes(21, 10),
    "margin": Passes(1, 0),
    "margin-gradient": Passes(1, 1),
    "one-substitution": Passes(153, 0),
    "parameter-margin": Passes(24, 24),
    "reachability": Passes(8, 8),
    "safer": Passes(200, 0),
    "sharpness": Passes(30, 30),
    "smoothing": Passes(1380, 0),
    "weight-rounding": Passes(2, 0),
}
"""By probe, for each example, at the budgets of `probes-quick` (`safer`: 200 samples), on MiniLM and SST-2."""

_ASKED = (
    "SELECT testset, attack, AVG(forwards), AVG(status='succeeded'), AVG(COALESCE(backwards, 0)) FROM outcomes "
    "WHERE attack != 'none' AND status IN ('succeeded', 'failed') GROUP BY testset, attack"
)


def read_measured_costs(folder: Path) -> dict[tuple[str, str], MeasuredCost]:
    """Returns each attack's cost in a stored run, by test set and attack; a pilot of few examples is enough.

    Raises:
        RunError: the folder is no run, or has no finished attack.
    """
    with open_store(folder) as connection:
        rows = connection.execute(_ASKED).fetchall()
    if not rows:
        raise RunError(f"{folder}: no attack has ended there; expected a run that has attacked a few examples")
    return {(testset, attack): MeasuredCost(f, s, None, b) for testset, attack, f, s, b in rows}


def read_attacked_shares(folder: Path) -> dict[str, float]:
    """Returns, by test set, the share of examples that a stored run attacked: those with right answers."""
    query = (
        "SELECT testset, AVG(status != 'skipped') FROM outcomes WHERE attack != 'none' AND status != 'errored' "
        "GROUP BY testset"
    )
    with open_store(folder) as connection:
        return dict(connection.execute(query).fetchall())
