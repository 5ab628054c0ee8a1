"""Exact distributions of sums of whole numbers, the limit of infinitely many draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.special import gammaln

from robustness.stats.resampling import MAX_CELLS, Units

LEAK = 1e-6
"""Probability allowed outside the range of sums."""
SLACK = 1e-11
"""Rounding of a sum of probabilities."""
BRANCHES = 32
"""Parts into which a search divides the rest."""
MAX_SUM = 2**14
"""Larger sums of sizes are not enumerated."""
ROUNDING = 1e-9
"""Rounding of a ratio times its size."""


def bootstrap_ends(units: Units, level: float) -> tuple[float, float] | None:
    r"""Returns the ends of the central interval of the bootstrap distribution of a mean, without drawing.

    With G units of sums s and sizes m, a sample's sum and size are those of G independent draws. So their
    distribution is the G-th convolution power of the units' own, by the Fourier transform: $$P(S, M) = \mathcal
    F^{-1}\big[(\mathcal F p)^G\big](S, M).$$ The low end is the smallest S / M with at least (1 - level) / 2 of the
    probability at or below it; the high end is symmetric. None if sums are no whole numbers or are too large.

    Source: the ideal bootstrap of Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 6.2.
    """
    if not ((units.sums == np.rint(units.sums)) & (np.abs(units.sums) < MAX_CELLS)).all():
        return None
    sums, sizes = units.sums.astype(np.int64), units.sizes.astype(np.int64)
    n_units, share = int(units.copies.sum()), (1 - level) / 2
    columns = (sums,) if sizes.min() == sizes.max() else (sizes, sums)
    windows = [_window(column, units.copies) for column in columns]
    if math.prod(width for _, width in windows) > MAX_CELLS:
        return None
    chances = _chances(columns, windows, units.copies)
    first = windows[-1][0]
    last = first + windows[-1][1] - 1
    if len(columns) == 1:
        scale = n_units * int(sizes[0])
        ends = _lowest(chances, share) + first, last - _lowest(chances[::-1], share)
        return ends[0] / scale, ends[1] / scale
    totals = windows[0][0] + np.arange(windows[0][1])
    chances, totals = chances[totals > 0], totals[totals > 0]
    reach = float(np.abs(sums / sizes).max())
    low = _lowest_ratio(chances, first, totals, share, reach)
    return low, -_lowest_ratio(chances[:, ::-1], -last, totals, share, reach)


def _chances(
    columns: Sequence[NDArray[np.int64]], windows: Sequence[tuple[int, int]], copies: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The distribution of the columns' sums over one draw per unit, within the windows."""
    n_units = int(copies.sum())
    table = np.zeros([width for _, width in windows])
    places = [(column - column.min()) % width for column, (_, width) in zip(columns, windows, strict=True)]
    np.add.at(table, tuple(places), copies / n_units)
    shifts = [
        -((first - n_units * int(column.min())) % width)
        for column, (first, width) in zip(columns, windows, strict=True)
    ]
    return np.roll(_power(table, n_units), shifts, axis=tuple(range(table.ndim)))


def _lowest(chances: NDArray[np.float64], share: float) -> int:
    """The first place with the share at or below it."""
    return min(int(np.searchsorted(np.cumsum(chances), share - SLACK)), len(chances) - 1)


def _lowest_ratio(
    chances: NDArray[np.float64], first: int, totals: NDArray[np.int64], share: float, reach: float
) -> float:
    """The smallest S / M with the share at or below it; rows are M in `totals`, columns S from `first`."""
    below = np.concatenate([np.zeros((len(totals), 1)), np.cumsum(chances, axis=1)], axis=1)
    rows, width = np.arange(len(totals)), chances.shape[1]
    bottom, top = -reach - 1.0, reach
    while top - bottom > 0.25 / float(totals[-1]) ** 2:  # ratios differ by 1 / M^2 at least
        tried = np.linspace(bottom, top, BRANCHES + 1)
        counted = np.floor(tried[1:-1, None] * totals).astype(np.int64) - first + 1
        shares = below[rows, np.minimum(np.maximum(counted, 0), width)].sum(axis=1)
        found = 1 + int(np.searchsorted(shares, share - SLACK))
        bottom, top = float(tried[found - 1]), float(tried[found])
    return float((np.floor(top * totals + ROUNDING) / totals).max())


def _window(values: NDArray[np.int64], copies: NDArray[np.int64]) -> tuple[int, int]:
    """The range of sums as first and count: Bernstein's inequality bounds the probability outside."""
    n_units = int(copies.sum())
    mean = float(values @ copies) / n_units
    variance = float((values - mean) ** 2 @ copies)
    reach = float(np.abs(values - mean).max())
    bound = math.log(2 / LEAK)
    half = bound * reach / 3 + math.sqrt((bound * reach / 3) ** 2 + 2 * bound * variance)
    first = max(n_units * int(values.min()), math.floor(n_units * mean - half))
    last = min(n_units * int(values.max()), math.ceil(n_units * mean + half))
    return first, next_fast_len(last - first + 1, real=True)


def _power(table: NDArray[np.float64], exponent: int) -> NDArray[np.float64]:
    """The distribution of a sum of draws, modulo the table's shape."""
    transformed = np.fft.rfftn(table)
    power, square = np.ones_like(transformed), transformed
    while exponent:
        if exponent & 1:
            power = power * square
        exponent >>= 1
        if exponent:
            square = square * square
    found: NDArray[np.float64] = np.fft.irfftn(power, s=table.shape, axes=tuple(range(table.ndim)))
    return np.maximum(found, 0.0)


def flip_p_value(sizes: NDArray[np.float64], copies: NDArray[np.int64], observed: float) -> float | None:
    r"""Returns the chance that random signs give units a sum at least as far from 0 as observed, without drawing.

    Among c units of size k the positive signs are Binomial(c, 1/2); the sum's distribution is their convolution. None
    if sizes are no whole numbers or are too large.
    """
    total = float(sizes @ copies)
    if total > MAX_SUM or not (sizes == np.rint(sizes)).all():
        return None
    kinds, index = np.unique(sizes.astype(np.int64), return_inverse=True)
    positive = np.ones(1)
    for kind, count in zip(kinds.tolist(), np.bincount(index, weights=copies).astype(np.int64).tolist(), strict=True):
        spread = np.zeros(kind * count + 1)
        spread[::kind] = _fair_coins(count)
        positive = np.convolve(positive, spread)
    sums = np.abs(2 * np.arange(len(positive)) - total)
    return min(1.0, float(positive[sums >= observed - ROUNDING].sum()))


@lru_cache(maxsize=1024)
def _fair_coins(count: int) -> NDArray[np.float64]:
    heads = np.arange(count + 1)
    chances: NDArray[np.float64] = np.exp(
        gammaln(count + 1) - gammaln(heads + 1) - gammaln(count - heads + 1) - count * math.log(2)
    )
    return chances
