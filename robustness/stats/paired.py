"""Tests of two arms on the same examples."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy.special import bdtr

from robustness.stats.arrays import outcome_column, require_equal_shapes


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The result of a paired test of outcomes; swapping the arms swaps only the two counts."""

    name: str
    p_value: float
    # Two-sided, not adjusted for other tests.
    only_reference_right: int
    # Examples.
    only_candidate_right: int
    # Examples.


def mcnemar_exact(reference_right: ArrayLike, candidate_right: ArrayLike) -> PairedTest:
    r"""Returns McNemar's exact test that both arms are right equally often.

    Only the discordant examples count, b right on the reference alone and c on the candidate alone. Under the null
    hypothesis b is Binomial(b + c, 1/2), so $$p = \min\Big(1, 2 \sum_{k=0}^{\min(b, c)} \binom{b+c}{k}
    2^{-(b+c)}\Big).$$ Without discordant examples p is 1. Examples are assumed independent; rows of one source
    question are not, so use one row per group.

    Source: McNemar, Psychometrika 12 (1947), 153-157; recommended for comparing classifiers by Dietterich,
    Neural Computation 10 (1998), 1895-1923.

    Args:
        reference_right: Whether the reference is right, shape (n,).
        candidate_right: Whether the candidate is right on the same examples, shape (n,).

    Raises:
        ValueError: The lengths differ, or a value is neither 0 nor 1.

    >>> mcnemar_exact([1, 1, 1, 1, 0], [0, 0, 0, 0, 0])  # 2 * (1/2)**4
    PairedTest(name='mcnemar-exact', p_value=0.125, only_reference_right=4, only_candidate_right=0)
    """
    reference, candidate = outcome_column(reference_right), outcome_column(candidate_right)
    require_equal_shapes(reference, candidate)
    only_reference, only_candidate = int((reference & ~candidate).sum()), int((candidate & ~reference).sum())
    discordant = only_reference + only_candidate
    p_value = min(1.0, 2 * float(bdtr(min(only_reference, only_candidate), discordant, 0.5)))
    return PairedTest("mcnemar-exact", p_value, only_reference, only_candidate)


def mcnemar_mid_p(reference_right: ArrayLike, candidate_right: ArrayLike) -> PairedTest:
    r"""Returns McNemar's mid-p test: the exact test less half the probability of what was observed.

    $$p_{mid} = p_{exact} - \binom{b+c}{\min(b, c)} 2^{-(b+c)},$$ and 1 where b = c. It keeps its level in all but
    rare cases and has more power than the exact test, which is conservative. Arguments and errors as in
    `mcnemar_exact`.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013), 91.

    >>> round(mcnemar_mid_p([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]).p_value, 6)  # 0.125 - (1/2)**4
    0.0625
    """
    exact = mcnemar_exact(reference_right, candidate_right)
    rarer, discordant = (
        min(exact.only_reference_right, exact.only_candidate_right),
        exact.only_reference_right + exact.only_candidate_right,
    )
    balanced = 2 * rarer == discordant
    below = float(bdtr(rarer - 1, discordant, 0.5)) if rarer else 0.0
    p_value = 1.0 if balanced else exact.p_value / 2 + below
    return PairedTest("mcnemar-mid-p", p_value, exact.only_reference_right, exact.only_candidate_right)
