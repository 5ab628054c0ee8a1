"""Paired tests of numeric scores (EM, F1, probe values) and of rows in groups."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.arrays import number_column
from robustness.stats.lattice import flip_p_value
from robustness.stats.resampling import INDICES_PER_BINOMIAL, MAX_CELLS, grouped_units, single_units

MAX_ENUMERATED = 14
"""Up to this many units all sign patterns are counted: 16,384."""


def paired_permutation(
    differences: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    permutations: int = 10_000,
) -> float:
    r"""Returns the two-sided p-value of the paired permutation test that swapping the arms changes nothing.

    With per-example differences summed by group to $s_g$, and signs $\epsilon_g = \pm 1$, the p-value is
    $$P\Big(\big|\sum_g \epsilon_g s_g\big| \ge \big|\sum_g s_g\big|\Big).$$ All patterns are counted if all s are
    whole numbers, or for up to 14 groups other than 0. Otherwise `permutations` patterns are drawn and the observed
    pattern is added, so p is never 0. For differences in {-1, 0, 1} without groups it is McNemar's exact test. No
    values give nan.

    Source: Fisher, The Design of Experiments (1935), section 21; the count of the drawn: Phipson and Smyth,
    Statistical Applications in Genetics and Molecular Biology 9 (2010), 39.

    Args:
        differences: Reference minus candidate, one number per example, shape (n,).
        groups: The group of each example, shape (n,), which flips its sign as one; None: every example is its own.
        rng: Where the draws come from.
        permutations: Patterns to draw if there are too many to count.

    Raises:
        ValueError: The shapes differ, a group is missing, a value is not finite, or permutations < 1.

    >>> paired_permutation([1, 1, 1, 1, 0], rng=np.random.default_rng(0))
    0.125
    """
    if permutations < 1:
        raise ValueError(f"expected at least one permutation, got {permutations}")
    column = number_column(differences)
    if not np.isfinite(column).all():
        raise ValueError("expected finite differences; leave missing ones out first")
    if len(column) == 0:
        return math.nan
    units = single_units(column) if groups is None else grouped_units(column, np.asarray(groups))
    kept = units.sums != 0
    sizes, copies = np.abs(units.sums[kept]), units.copies[kept]
    observed = abs(float(units.sums[kept] @ copies))
    n_units = int(copies.sum())
    if n_units == 0:
        return 1.0
    counted = flip_p_value(sizes, copies, observed)
    if counted is not None:
        return counted
    tolerance = 1e-9 * max(1.0, float(sizes @ copies))
    if n_units <= MAX_ENUMERATED:
        signs = 1 - 2 * ((np.arange(2**n_units)[:, None] >> np.arange(n_units)) & 1)
        return float((np.abs(signs @ np.repeat(sizes, copies)) >= observed - tolerance).mean())
    sums = _flipped_sums(sizes, copies, rng, permutations)
    return float((1 + (np.abs(sums) >= observed - tolerance).sum()) / (permutations + 1))


def _flipped_sums(
    sizes: NDArray[np.float64], copies: NDArray[np.int64], rng: np.random.Generator, permutations: int
) -> NDArray[np.float64]:
    kinds, index = np.unique(sizes, return_inverse=True)
    counts = np.bincount(index, weights=copies).astype(np.int64)
    if len(kinds) * INDICES_PER_BINOMIAL <= counts.sum():  # how many of the equal units keep their sign is binomial
        return (2 * rng.binomial(counts, 0.5, size=(permutations, len(kinds))) - counts) @ kinds
    units = np.repeat(kinds, counts)
    rows = max(1, MAX_CELLS // len(units))
    chunks = []
    for start in range(0, permutations, rows):
        shape = (min(rows, permutations - start), len(units))
        bits = np.unpackbits(
            np.frombuffer(rng.bytes(-(-shape[0] * shape[1] // 8)), np.uint8), count=shape[0] * shape[1]
        )
        chunks.append(2 * (bits.reshape(shape).astype(np.float64) @ units) - units.sum())
    return np.concatenate(chunks)
