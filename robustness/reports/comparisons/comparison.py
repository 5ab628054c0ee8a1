"""One comparison of two arms on the same examples: its numbers, before any family of tests is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustness.stats import (
    Estimate,
    Reason,
    mcnemar_exact,
    mcnemar_mid_p,
    mean_difference,
    paired_permutation,
    rarer_share,
)
from robustness.stats.estimates import NO_ESTIMATE
from robustness.stats.verdicts import Evidence

Column = NDArray[np.float64]
Mask = NDArray[np.bool_]
POST_STRATIFIED = "post-stratified"
"""The test where examples stand for others that have no outcome."""
DROP_LIMIT = 2.0
"""How far two drops can differ: a changed text may be answered rightly where the clean one is not, so by two."""


class Family(StrEnum):
    """Comparisons of one pair whose p-values are adjusted together."""

    PLANNED = "planned"
    """Test sets and attacks by their primary metric: the only family that a tally counts."""
    EFFORT = "effort"
    SECONDARY = "secondary"
    """Other metrics and populations: numbers beside the planned ones, without a verdict of their own."""
    EXPLORED = "explored"
    """Parts of test sets."""
    CONTROL = ""
    """Clean test sets, `identity` and random baselines are in no family: their p-values stand alone."""


@dataclass(frozen=True, slots=True)
class PairedOutcomes:
    """The same examples under both arms, shape (n,) each; those without a judged outcome on both are left out."""

    reference: Mask
    """Right on the row, or right before and after the attack."""
    candidate: Mask
    reference_clean: Mask
    """Right on the clean text; False where that is not known."""
    candidate_clean: Mask
    clean_known: Mask
    groups: NDArray[Any]
    weights: Column | None = None
    """How many examples each stands for, where others have no outcome; None: itself alone."""

    def where(self, mask: Mask) -> PairedOutcomes:
        """The examples that the mask keeps."""
        return PairedOutcomes(
            self.reference[mask],
            self.candidate[mask],
            self.reference_clean[mask],
            self.candidate_clean[mask],
            self.clean_known[mask],
            self.groups[mask],
            None if self.weights is None else self.weights[mask],
        )

    @property
    def both_correct(self) -> PairedOutcomes:
        """The examples whose clean text both arms answer rightly."""
        return self.where(self.clean_known & self.reference_clean & self.candidate_clean)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of pairs.csv or fragility.csv; every difference is above 0 where the candidate is worse off."""

    labels: Mapping[str, object]
    """Where and of what: pair, test set, attack and so on."""
    metric: str
    population: str
    family: Family
    n: int
    reference_value: float
    candidate_value: float
    estimate: Estimate
    test: str
    p_value: float
    p_mid: float = math.nan
    """Of McNemar's mid-p test, where that is an alternative."""
    aggregation: str = "mean"
    clean: Estimate | None = None
    """Of the clean answers to the same examples, where they are known."""
    success: Estimate | None = None
    """Of the success rate on the examples that both arms have right."""
    known: Estimate | None = None
    """Of the compared rates on the examples whose clean answers are known; None: of all, or of none."""
    drop: Estimate | None = None
    rarer_share: float | None = None
    """Of examples that just one arm has right, on the side that has fewer; None: not of right and wrong."""
    is_clean: bool = False
    n_left_out: int = 0
    """Examples for which at least one arm has no judged outcome."""
    n_seeds: int = 1
    withheld: Reason | None = None
    """Why no verdict may be given for any numbers."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Further columns."""

    def evidence(self, p_value: float) -> Evidence:
        """What a verdict rests on, given the p-value that counts."""
        return Evidence(
            self.reference_value,
            self.candidate_value,
            self.estimate.interval(),
            p_value,
            clean=None if self.clean is None else self.clean.interval(),
            success=None if self.success is None else self.success.interval(),
            known=None if self.known is None else self.known.interval(),
            is_clean=self.is_clean,
        )


def compare_rates(
    outcomes: PairedOutcomes,
    labels: Mapping[str, object],
    *,
    metric: str,
    family: Family,
    seed: int,
    is_clean: bool = False,
    n_left_out: int = 0,
) -> Comparison:
    """Returns the comparison of two rates of right answers; rows of a group are taken as one unit.

    Where groups have several rows the test is the paired permutation of whole groups. Where examples stand for others
    without an outcome it is the estimate's own. Otherwise it is McNemar's exact test.
    """
    groups = outcomes.groups if has_repeats(outcomes.groups) else None
    differences = outcomes.reference.astype(np.float64) - outcomes.candidate
    weights = outcomes.weights
    estimate = mean_difference(differences, groups, weights)
    test, p_value, p_mid = _test(outcomes, differences, groups, estimate, seed)
    clean, success, known, drop = _clean_estimates(outcomes, differences, groups)
    return Comparison(
        labels=labels,
        metric=metric,
        population="all",
        family=family,
        n=len(differences),
        reference_value=float(np.average(outcomes.reference, weights=weights)),
        candidate_value=float(np.average(outcomes.candidate, weights=weights)),
        estimate=estimate,
        test=test,
        p_value=p_value,
        p_mid=p_mid,
        clean=estimate if is_clean else clean,
        success=success,
        known=known,
        drop=drop,
        rarer_share=rarer_share(differences, weights),
        is_clean=is_clean,
        n_left_out=n_left_out,
    )


def _test(
    outcomes: PairedOutcomes,
    differences: Column,
    groups: NDArray[Any] | None,
    estimate: Estimate,
    seed: int,
) -> tuple[str, float, float]:
    if outcomes.weights is not None:
        return POST_STRATIFIED, estimate.p_value, math.nan
    if groups is not None:
        p_value = paired_permutation(differences, groups, rng=np.random.default_rng(seed))
        return "permutation-of-groups", p_value, math.nan
    exact = mcnemar_exact(outcomes.reference, outcomes.candidate)
    return exact.name, exact.p_value, mcnemar_mid_p(outcomes.reference, outcomes.candidate).p_value


def _clean_estimates(
    outcomes: PairedOutcomes, differences: Column, groups: NDArray[Any] | None
) -> tuple[Estimate | None, Estimate | None, Estimate | None, Estimate | None]:
    """Of clean answers, the success rate where both are right, rates where clean is known, and the drop."""
    known = outcomes.clean_known
    if not known.any():
        return None, None, None, None

    def estimate(values: Column, mask: Mask, limit: float = 1.0) -> Estimate:
        weights = None if outcomes.weights is None else outcomes.weights[mask]
        return mean_difference(values[mask], None if groups is None else groups[mask], weights, limit=limit)

    clean = outcomes.reference_clean.astype(np.float64) - outcomes.candidate_clean
    both = known & outcomes.reference_clean & outcomes.candidate_clean
    success = estimate(differences, both) if both.any() else NO_ESTIMATE
    partial = None if known.all() else estimate(differences, known)
    return estimate(clean, known), success, partial, estimate(differences - clean, known, DROP_LIMIT)


def compare_success(outcomes: PairedOutcomes, labels: Mapping[str, object], seed: int) -> Comparison | None:
    """Returns the comparison of success rates on the examples that both arms have right, None where there are none.

    The difference is candidate minus reference: the share that breaks.
    """
    both = outcomes.both_correct
    if not len(both.groups):
        return None
    kept = compare_rates(both, labels, metric="attack_success_rate", family=Family.SECONDARY, seed=seed)
    # The candidate's success rate less the reference's is the reference's kept share less the candidate's.
    return replace(
        kept,
        reference_value=1 - kept.reference_value,
        candidate_value=1 - kept.candidate_value,
        population="both_correct",
        clean=None,
        success=None,
        drop=None,
    )


def has_repeats(groups: NDArray[Any]) -> bool:
    """Whether a group has several rows."""
    ordered = np.sort(groups)
    return bool((ordered[1:] == ordered[:-1]).any())


def stand_in_weights(
    reference_clean: NDArray[np.int8], candidate_clean: NDArray[np.int8], kept: Mask
) -> Column | None:
    r"""Returns how many examples each kept one stands for, shape (kept,), where others have no outcome.

    Errors befall what is attacked, so they thin out examples that were right before the attack, and on one arm alone
    that tilts the comparison. Strata are what both arms answer to the clean text: with $N_s$ examples in stratum s of
    which $n_s$ are kept, each of these stands for $N_s / n_s$. None where no example is left out or a clean answer
    is not known. Also None where a stratum has lost all its examples: no example can stand for them.

    Source: post-stratification; Cochran, Sampling Techniques (1977), section 5A.9.

    Args:
        reference_clean: 1 right, 0 wrong, -1 unknown, shape (examples,).
        candidate_clean: The same of the candidate.
        kept: Which examples have an outcome on both arms.
    """
    known = (reference_clean >= 0) & (candidate_clean >= 0)
    if kept.all() or not known[kept].all():
        return None
    strata = 2 * reference_clean.astype(np.int64) + candidate_clean
    everyone, those_kept = (np.bincount(strata[mask], minlength=4) for mask in (known, kept))
    if not those_kept.any() or ((those_kept == 0) & (everyone > 0)).any() or (everyone == those_kept).all():
        return None
    return np.asarray((everyone / np.maximum(those_kept, 1))[strata[kept]])
