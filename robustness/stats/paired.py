"""Tests of two arms on the same examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from robustness.stats.arrays import number_column, outcome_column, require_equal_shapes


@dataclass(frozen=True, slots=True)
class PairedTest:
    """What a paired test of outcomes found; swapping the arms swaps the two counts, no more."""

    name: str
    p_value: float
    # Two-sided, not adjusted for other tests.
    only_full_right: int
    # Examples.
    only_peft_right: int
    # Examples.


def mcnemar_exact(full_right: ArrayLike, peft_right: ArrayLike) -> PairedTest:
    r"""Returns McNemar's exact test that both arms are right equally often.

    Only the discordant examples count: with b right in the full arm alone and c in the PEFT arm alone, b is
    Binomial(b + c, 1/2) under the null hypothesis, so
    $$p = \min\Big(1, 2 \sum_{k=0}^{\min(b, c)} \binom{b+c}{k} 2^{-(b+c)}\Big).$$
    Without discordant examples p is 1. Examples are taken as independent: rows of one source question are
    not, so test those on one row per group.

    Source: McNemar, Psychometrika 12 (1947), 153-157; recommended for comparing classifiers by Dietterich,
    Neural Computation 10 (1998), 1895-1923.

    Args:
        full_right: Whether the full checkpoint is right, shape (n,).
        peft_right: Whether the PEFT checkpoint is right on the same examples, shape (n,).

    Raises:
        ValueError: The lengths differ, or a value is neither 0 nor 1.

    >>> mcnemar_exact([1, 1, 1, 1, 0], [0, 0, 0, 0, 0])  # 2 * (1/2)**4
    PairedTest(name='mcnemar-exact', p_value=0.125, only_full_right=4, only_peft_right=0)
    """
    full, peft = outcome_column(full_right), outcome_column(peft_right)
    require_equal_shapes(full, peft)
    only_full, only_peft = int((full & ~peft).sum()), int((peft & ~full).sum())
    discordant = only_full + only_peft
    p_value = float(binomtest(min(only_full, only_peft), discordant).pvalue) if discordant else 1.0
    return PairedTest("mcnemar-exact", p_value, only_full, only_peft)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Returns Holm's adjusted p-values of one family of tests, in the order given, shape (n,).

    With the m p-values sorted upwards, $$\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)}).$$
    Rejecting where the adjusted value is at most alpha keeps the chance of any false rejection at or below
    alpha, however the tests depend on each other. A nan (a test that could not be made) stays nan and does
    not count in m.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> holm([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.06, 0.06])
    """
    adjusted = number_column(p_values).copy()
    made = ~np.isnan(adjusted)
    if ((adjusted[made] < 0) | (adjusted[made] > 1)).any():
        raise ValueError("expected p-values between 0 and 1")
    if made.any():
        adjusted[made] = multipletests(adjusted[made], method="holm")[1]
    return adjusted
