"""Metrics of clean and attacked predictions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes


@dataclass(frozen=True, slots=True)
class AttackCounts:
    """The number of a cell's examples in each status; rates are fractions, nan without examples.

    Errored examples are in `n` but in no rate, because their outcome is unknown.

    >>> counts = AttackCounts.of(["skipped", "succeeded", "failed", "failed", "errored"])
    >>> counts.n, counts.clean_accuracy, counts.robust_accuracy
    (5, 0.75, 0.5)
    """

    skipped: int
    # Wrong before the attack.
    succeeded: int
    failed: int
    errored: int

    @classmethod
    def of(cls, statuses: Iterable[str]) -> AttackCounts:
        """Returns the counts of a column of statuses.

        Raises:
            ValueError: A status is unknown; known are skipped, succeeded, failed and errored.
        """
        counts = Counter(str(status) for status in statuses)
        known = ("skipped", "succeeded", "failed", "errored")
        if unknown := sorted(set(counts).difference(known)):
            raise ValueError(f"expected the statuses {', '.join(known)}; got {', '.join(unknown)}")
        return cls(counts["skipped"], counts["succeeded"], counts["failed"], counts["errored"])

    @property
    def n(self) -> int:
        """All examples: skipped + succeeded + failed + errored."""
        return self.n_judged + self.errored

    @property
    def n_judged(self) -> int:
        """Examples with a judged outcome: skipped + succeeded + failed."""
        return self.skipped + self.succeeded + self.failed

    @property
    def clean_accuracy(self) -> float:
        """(succeeded + failed) / n_judged: right before the attack."""
        return _ratio(self.succeeded + self.failed, self.n_judged)

    @property
    def robust_accuracy(self) -> float:
        """Failed / n_judged: right before and after the attack; never above clean_accuracy."""
        return _ratio(self.failed, self.n_judged)

    @property
    def attack_success_rate(self) -> float:
        """Succeeded / (succeeded + failed): broken examples among those right before."""
        return _ratio(self.succeeded, self.succeeded + self.failed)


S = TypeVar("S", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class AdvGlueScores(Generic[S]):
    """One arm's scores on the AdvGLUE tasks, all fractions or all percent: numbers, or arrays of resampled ones."""

    sst2: S
    qqp_accuracy: S
    qqp_f1: S
    mnli: S
    mnli_mm: S
    qnli: S
    rte: S


def accuracy(correct: ArrayLike) -> float:
    r"""Returns the share of outcomes that are right, $$\frac{1}{n} \sum_i c_i,$$ or nan when there are none.

    Source: the GLUE benchmark's metric (arXiv 1804.07461).

    Args:
        correct: Whether each prediction is right, shape (n,).

    Raises:
        ValueError: A value is neither 0 nor 1.

    >>> accuracy([True, True, False, True])
    0.75
    """
    outcomes = outcome_column(correct)
    return _ratio(int(outcomes.sum()), len(outcomes))


def binary_f1(labels: ArrayLike, predictions: ArrayLike, *, positive: int = 1) -> float:
    r"""Returns the F1 score of one class, a fraction.

    From its true positives, false positives and false negatives,
    $$F_1 = \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FP} + \mathrm{FN}}.$$
    It is 0 where it is undefined: when the class is neither a label nor a prediction, or there are no rows.

    Source: the GLUE benchmark's metric of QQP (arXiv 1804.07461).

    Args:
        labels: True classes, shape (n,).
        predictions: Predicted classes, shape (n,).
        positive: The class scored.

    Raises:
        ValueError: The lengths differ.

    >>> binary_f1([1, 1, 0, 0], [1, 0, 1, 0])  # TP = FP = FN = 1
    0.5
    """
    true, predicted = number_column(labels) == positive, number_column(predictions) == positive
    require_equal_shapes(true, predicted)
    both, either = int((true & predicted).sum()), int(true.sum() + predicted.sum())
    return 2 * both / either if either else 0.0


def advglue_macro(scores: AdvGlueScores[S]) -> S:
    r"""Returns the official AdvGLUE macro score, in the scores' unit; nan when a score is.

    $$\frac{1}{5} \Big(\mathrm{SST2} + \frac{\mathrm{QQP}_{acc} + \mathrm{QQP}_{F1}}{2}
    + \frac{\mathrm{MNLI}_m + \mathrm{MNLI}_{mm}}{2} + \mathrm{QNLI} + \mathrm{RTE}\Big)$$

    Source: arXiv 2111.02840.

    >>> advglue_macro(AdvGlueScores(
    ...     sst2=50, qqp_accuracy=40, qqp_f1=20, mnli=30, mnli_mm=10, qnli=40, rte=60))
    40.0
    """
    qqp = (scores.qqp_accuracy + scores.qqp_f1) / 2
    mnli = (scores.mnli + scores.mnli_mm) / 2
    return (scores.sst2 + qqp + mnli + scores.qnli + scores.rte) / 5


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
