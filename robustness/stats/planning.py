"""Planning: what a future sample can show about gaps, equality, and gaps over training seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri
from scipy.stats import binom, chi2, t

from robustness.stats.power import mcnemar_power

POWER = 0.8
RARER_SHARE = 0.05
"""Share of examples that only the worse arm has right; an assumption without a pilot."""
SEED_SD = 0.01
"""Standard deviation of a difference between training seeds, a fraction: an assumption."""
REPEATED_SHARE = 0.5
"""Share of the discordance that every seed shows on the same examples: an assumption."""
MIN_SEEDS = 3
"""Two seeds leave one degree of freedom, whose t quantile is 12.7."""
RESOLUTION = 1e-4
"""Resolution of gaps: a hundredth of a point."""
MAX_EXAMPLES = 2**20
_SPREADS = 400
"""Quantiles of the observed spread of seeds over which power is averaged."""


def detectable_gap(n: int, *, rarer_share: float = RARER_SHARE, alpha: float = 0.05, power: float = POWER) -> float:
    r"""Returns the smallest true difference of two accuracies that McNemar's exact test finds with the given power.

    A larger difference d has more discordant examples: their share is $\pi(d) = \min(1, d + 2r)$. Here r, the share
    of examples that only the worse arm has right, is constant. nan if even a difference of 1 would be missed.

    Source: Lachin, Statistics in Medicine 11 (1992), 1239-1251.

    Args:
        n: Number of examples, or of groups where rows share a source.
        rarer_share: r, a fraction, at most 1/2.
        alpha: The level of the single test; the family's divided by its number of tests, for Holm's strictest.
        power: The wanted power, in (0, 1).

    Raises:
        ValueError: n is negative, or a share or chance is out of range.

    >>> round(detectable_gap(148), 3)
    0.109
    """
    _require_chances(rarer_share, alpha, power)
    return _smallest(
        lambda gap: mcnemar_power(n, gap, min(1.0, gap + 2 * rarer_share), alpha=alpha),
        power,
    )


def equivalence_power(
    n: int, *, margin: float = 0.02, rarer_share: float = RARER_SHARE, level: float = 0.95
) -> float:
    r"""Returns the chance that equal arms have their whole interval of Bonett and Price within the margin.

    With b and c examples that one arm alone has right, $N = n + 2$, $\tilde d = (b - c) / N$ and
    $\tilde\pi = (b + c + 2) / N$, the interval is $\tilde d \pm z \sqrt{(\tilde\pi - \tilde d^2) / N}$. Given
    $m = b + c \sim$ Binomial(n, 2r) it lies within the margin where $|b - c|$ is below a root of a quadratic, and
    b is Binomial(m, 1/2): nothing is approximated. At 95 % it is two one-sided tests at 2.5 % each.

    Source: Bonett and Price, Journal of Educational and Behavioral Statistics 37 (2012), 479-488; Schuirmann, Journal
    of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.

    Args:
        n: Number of examples.
        margin: The largest difference that does not matter, a fraction.
        rarer_share: r, the share of examples on which one arm alone is right, each way.
        level: Of the interval.

    Raises:
        ValueError: n is negative, or margin, share or level is out of range.

    >>> equivalence_power(1000) < 0.5 < equivalence_power(4000)
    True
    """
    _require_chances(rarer_share, 1 - level, 0.5)
    if n < 0 or not 0 < margin < 1:
        raise ValueError(f"expected n >= 0 and a margin in (0, 1), got {n} and {margin}")
    discordant = np.arange(n + 1)
    size, z = n + 2, float(ndtri((1 + level) / 2))
    inflation, reach = 1 + z**2 / size, margin * size
    root = reach**2 - inflation * (reach**2 - z**2 * (discordant + 2))
    widest = (reach - np.sqrt(np.maximum(root, 0.0))) / inflation
    # Rounding must not exclude a difference exactly at the margin.
    fewest = np.ceil((discordant - widest) / 2 - 1e-9)
    balanced = 1 - 2 * bdtr(np.maximum(fewest - 1, 0), discordant, 0.5) * (fewest >= 1)
    weights = binom.pmf(discordant, n, 2 * rarer_share)
    return float((weights * np.where(widest >= 0, np.maximum(balanced, 0.0), 0.0)).sum())


def examples_for_equivalence(
    *, margin: float = 0.02, rarer_share: float = RARER_SHARE, power: float = POWER, level: float = 0.95
) -> int:
    """Returns the number of examples that equal arms need for a verdict of equality with the given power.

    Accurate to half a percent, because power rises and falls slightly from one n to the next. Arguments as in
    `equivalence_power`.

    Raises:
        ValueError: An argument is out of range, or more than a million examples were needed.

    >>> 2500 < examples_for_equivalence() < 3000
    True
    """
    _require_chances(rarer_share, 1 - level, power)
    few, many = 0, 64
    while equivalence_power(many, margin=margin, rarer_share=rarer_share, level=level) < power:
        few, many = many, 2 * many
        if many > MAX_EXAMPLES:
            raise ValueError(f"expected a margin that {MAX_EXAMPLES} examples reach, got {margin}")
    while many - few > max(1, many // 200):
        middle = (few + many) // 2
        reached = equivalence_power(middle, margin=margin, rarer_share=rarer_share, level=level) >= power
        few, many = (few, middle) if reached else (middle, many)
    return many


def detectable_gap_over_seeds(
    seeds: int,
    n: int,
    *,
    seed_sd: float = SEED_SD,
    rarer_share: float = RARER_SHARE,
    alpha: float = 0.05,
    power: float = POWER,
) -> float:
    r"""Returns the smallest true difference of a method whose interval over S training seeds excludes 0.

    The difference of one example under one seed is $\mu + a_s + b_g + e_{sg}$. The interval's half-width is $$h^2 =
    t^2_{S-1} \frac{MS_{seed}}{S n} + z^2 \frac{\sigma_b^2}{n},\quad \frac{MS_{seed}}{n} \sim \Big(\sigma_a^2 +
    \frac{\sigma_e^2}{n}\Big) \frac{\chi^2_{S-1}}{S-1},$$ and the power is averaged over the observed spread of the
    seeds. Examples add $\sigma_b^2 + \sigma_e^2 = 2r$, half of it to each (`REPEATED_SHARE`). Normal approximation of
    the mean.

    Source: Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702, for the sum of squared half-widths.

    Args:
        seeds: S, at least 2.
        n: Number of examples, or of groups.
        seed_sd: $\sigma_a$, a fraction.
        rarer_share: r, the share of examples on which one arm alone is right, each way.
        alpha: The level of the single test.
        power: The wanted power, in (0, 1).

    Raises:
        ValueError: Fewer than two seeds, no example, or a share or chance out of range.

    >>> three, ten = (detectable_gap_over_seeds(seeds, 1000) for seeds in (3, 10))
    >>> 0.04 < three < 0.05 and 0.02 < ten < 0.03
    True
    """
    _require_chances(rarer_share, alpha, power)
    if seeds < 2 or n < 1 or seed_sd < 0:
        raise ValueError(f"expected at least 2 seeds, 1 example and seed_sd >= 0, got {seeds}, {n} and {seed_sd}")
    example = REPEATED_SHARE * 2 * rarer_share / n
    by_seed = (seed_sd**2 + (1 - REPEATED_SHARE) * 2 * rarer_share / n) / seeds
    df = seeds - 1
    spread = chi2.ppf((np.arange(_SPREADS) + 0.5) / _SPREADS, df) / df
    half = np.sqrt(float(t.ppf(1 - alpha / 2, df)) ** 2 * by_seed * spread + ndtri(1 - alpha / 2) ** 2 * example)
    return _smallest(lambda gap: _mean_power(gap, half, math.sqrt(by_seed + example)), power)


def _mean_power(gap: float, half: NDArray[np.float64], error: float) -> float:
    """The chance that a mean of that standard error, around the gap, lies farther from 0 than the half-widths."""
    if error == 0:
        return float(gap > 0)
    return float((ndtr((gap - half) / error) + ndtr((-gap - half) / error)).mean())


def _smallest(power_of: Callable[[float], float], power: float) -> float:
    """The smallest gap in (0, 1] with that power, to `RESOLUTION`; nan if there is none."""
    low, high = 0.0, 1.0
    if power_of(high) < power:
        return math.nan
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _require_chances(rarer_share: float, alpha: float, power: float) -> None:
    if not 0 <= rarer_share <= 0.5 or not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError(
            f"expected rarer_share in [0, 0.5], alpha and power in (0, 1), got {rarer_share}, {alpha} and {power}"
        )
