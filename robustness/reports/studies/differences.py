"""A method against full fine-tuning, and full against full over training seeds, on the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from robustness.reports.comparisons.comparison import DROP_LIMIT, has_repeats
from robustness.reports.comparisons.seeds import linearise
from robustness.reports.studies.folder import StudyCheckpoint
from robustness.reports.studies.scores import Column, Scores
from robustness.stats import Estimate, difference_over_seeds, mean_difference
from robustness.stats.estimates import NO_ESTIMATE
from robustness.stats.verdicts import Evidence

Groups = NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class MethodDifference:
    """Full minus a method over the seeds that both have."""

    seeds: tuple[int, ...]
    full_value: float
    value: float
    estimate: Estimate
    n: int
    known: KnownClean | None
    """None: no score before the attack is known."""

    def evidence(self, p_value: float, *, is_clean: bool) -> Evidence:
        """What a verdict rests on, given the p-value that counts."""
        known = self.known
        return Evidence(
            self.full_value,
            self.value,
            self.estimate.interval(),
            p_value,
            clean=None if known is None else known.clean.interval(),
            success=None if known is None else known.success.interval(),
            known=None if known is None else known.robust.interval(),
            is_clean=is_clean,
        )


@dataclass(frozen=True, slots=True)
class KnownClean:
    """Full minus a method on the examples whose score before the attack is known, the same under all arms."""

    n: int
    robust: Estimate
    """Of the score under attack."""
    clean: Estimate
    """Of the score before it."""
    success: Estimate
    """Of the success rate on the examples that both arms of a pair have right."""
    drop: Estimate
    """Of what is lost from clean to robust: above 0 the method loses more."""


def compare_with_full(
    cell: Scores, full: Sequence[StudyCheckpoint], method: Sequence[StudyCheckpoint]
) -> MethodDifference | None:
    """Returns the difference over common training seeds; None without one, or without examples.

    Of one seed the estimate is that of two checkpoints, not of the method.
    """
    by_seed = {arm.train_seed: arm for arm in full if arm in cell.arms}
    others = {arm.train_seed: arm for arm in method if arm in cell.arms}
    seeds = sorted(by_seed.keys() & others.keys())
    if not seeds or not cell.n:
        return None
    reference, candidate = (cell.of([arms[seed] for seed in seeds]) for arms in (by_seed, others))
    groups = cell.groups if has_repeats(cell.groups) else None
    table = reference.robust - candidate.robust
    is_known = cell.clean_known
    return MethodDifference(
        seeds=tuple(seeds),
        full_value=float(reference.robust.mean()),
        value=float(candidate.robust.mean()),
        estimate=_estimate(table, groups),
        n=cell.n,
        known=_on_known(reference.where(is_known), candidate.where(is_known), groups) if is_known.any() else None,
    )


def _on_known(reference: Scores, candidate: Scores, groups: Groups) -> KnownClean:
    """Of scores whose examples are the known ones alone."""
    names = None if groups is None else reference.groups
    table, gap = reference.robust - candidate.robust, reference.clean - candidate.clean
    both = (reference.clean == 1) & (candidate.clean == 1)
    return KnownClean(
        n=reference.n,
        robust=_estimate(table, names),
        clean=_estimate(gap, names),
        success=_estimate(linearise(table, both), names) if both.any(axis=1).all() else NO_ESTIMATE,
        drop=_estimate(table - gap, names, DROP_LIMIT),
    )


def _estimate(table: Column, groups: Groups, limit: float = 1.0) -> Estimate:
    if len(table) == 1:
        return mean_difference(table[0], groups, limit=limit)
    return difference_over_seeds(table, groups, limit=limit)


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Differences between full checkpoints that only the training seed distinguishes."""

    n_seeds: int
    typical: float
    """Root mean square of the differences of two; nan with fewer than two seeds."""
    largest: float
    """Largest difference of two."""


def noise_floor(cell: Scores, full: Sequence[StudyCheckpoint]) -> NoiseFloor:
    """Returns how far the scores of full checkpoints of two seeds are apart on a cell."""
    values = (
        [float(row.mean()) for row in cell.of([arm for arm in full if arm in cell.arms]).robust] if cell.n else []
    )
    differences = np.array([first - second for first, second in combinations(values, 2)])
    if not len(differences):
        return NoiseFloor(len(values), math.nan, math.nan)
    return NoiseFloor(len(values), float(np.sqrt((differences**2).mean())), float(np.abs(differences).max()))
