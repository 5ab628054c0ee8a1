"""What attacks and probes typically ask of a victim, as measured runs counted it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from robustness.errors import RunError
from robustness.runs.store import open_store


@dataclass(frozen=True, slots=True)
class Typical:
    """What one attack asked for, on average over the examples that it attacked."""

    forwards: float
    """Texts run through the model, the clean text and the judgement included."""
    successes: float
    """Share of the examples attacked."""
    words: float | None = None
    """Of those examples; None: what it asks for does not grow with their words."""
    backwards: float = 0.0

    def at(self, words: float) -> Typical:
        """Returns what it would ask of examples of so many words: in proportion, but for clean text and judgement.

        >>> Typical(forwards=42, successes=0.5, words=20).at(10).forwards
        22.0
        """
        factor = words / self.words if self.words else 1.0
        forwards = 2 + (self.forwards - 2) * factor if self.forwards > 2 else self.forwards
        return Typical(forwards, self.successes, words, self.backwards * factor)


ATTACKS: Mapping[str, Typical] = {
    "a2t": Typical(13, 0.62, 20.12, 1),
    "bad-characters": Typical(46, 1, 20.12),
    "checklist": Typical(2.62, 0),
    "deepwordbug": Typical(23.5, 1, 16.9),
    "fgsm": Typical(5.75, 1, None, 1.25),
    "hotflip": Typical(49.62, 0.62, 20.12, 6),
    "hotflip-vocabulary": Typical(13, 1, 20.12, 1),
    "identity": Typical(2, 0),
    "input-reduction": Typical(40.25, 1, 20.12),
    "pgd": Typical(40, 1, None, 34.5),
    "pgd-linf": Typical(12.88, 1, None, 9.62),
    "pruthi": Typical(287, 0.88, 16.9),
    "pwws": Typical(96.4, 1, 16.9),
    "random-chars": Typical(23.5, 0.75, 20.12),
    "random-words": Typical(64.5, 0.88, 20.12),
    "stress-append": Typical(9.62, 0.5),
    "textbugger": Typical(30.38, 0.88, 20.12),
    "textfooler": Typical(30.62, 0.75, 20.12),
}
"""By recipe: means over sentences of SST-2's development set that a fully fine-tuned MiniLM-L6 gets right.

Source: tests/benchmarks/results/typical_costs.json, made by test_typical_costs.py on eight sentences; of
`deepwordbug`, `pruthi` and `pwws` the hundred sentences of the results of these names, nine in ten of them attacked.
"""

UNMEASURED = {
    **{"bae": "textfooler", "bert-attack": "textfooler", "clare": "pruthi", "cascade": "pruthi"},
    **{
        "genetic": "pruthi",
        "pso": "pruthi",
        "gbda": "pgd",
        "apgd": "pgd",
        "apgd-linf": "pgd",
        "ddn": "pgd",
        "fmn": "pgd",
    },
}
"""Recipes that have not been measured, by the measured one that is nearest to what they may ask for."""


SEARCHED: Mapping[str, float] = {"addany": 295, "addanyextend": 540}
"""By generator, queries a question of test sets that are searched for against each checkpoint.

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
    "margin-gradient": Passes(3, 3),
    "one-substitution": Passes(153, 0),
    "parameter-margin": Passes(24, 24),
    "reachability": Passes(8, 8),
    "safer": Passes(400, 0),
    "sharpness": Passes(36, 36),
    "smoothing": Passes(1380, 0),
    "weight-rounding": Passes(4, 0),
}
"""By probe, for each example, at the budgets of `probes-quick`: two runs of it on MiniLM and SST-2."""

_ASKED = (
    "SELECT testset, attack, AVG(forwards), AVG(status='succeeded'), AVG(COALESCE(backwards, 0)) FROM outcomes "
    "WHERE attack != 'none' AND status IN ('succeeded', 'failed') GROUP BY testset, attack"
)


def read_typical(folder: Path) -> dict[tuple[str, str], Typical]:
    """Returns what each attack asked for in a stored run, by test set and attack; a pilot of few examples will do.

    Raises:
        RunError: the folder is no run, or no attack has ended in it.
    """
    with open_store(folder) as connection:
        rows = connection.execute(_ASKED).fetchall()
    if not rows:
        raise RunError(f"{folder}: no attack has ended there; expected a run that has attacked a few examples")
    return {(testset, attack): Typical(f, s, None, b) for testset, attack, f, s, b in rows}


def read_attacked_shares(folder: Path) -> dict[str, float]:
    """Returns by test set what share of its examples a stored run attacked: those that were answered rightly."""
    query = (
        "SELECT testset, AVG(status != 'skipped') FROM outcomes WHERE attack != 'none' AND status != 'errored' "
        "GROUP BY testset"
    )
    with open_store(folder) as connection:
        return dict(connection.execute(query).fetchall())
