"""The bootstrap of a mean: whole units drawn with replacement, without a loop over samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.stats.arrays import require_equal_shapes

# Bounds every temporary to 8 MB, which also keeps it near the cache.
MAX_CELLS = 2**20

# One binomial draw costs about as much as this many draws of an index.
INDICES_PER_BINOMIAL = 16


@dataclass(frozen=True, slots=True)
class Units:
    """The units of the bootstrap, by kinds of equal units; each array has shape (kinds,)."""

    sums: NDArray[np.float64]
    sizes: NDArray[np.float64]
    copies: NDArray[np.int64]


def single_units(column: NDArray[np.float64]) -> Units:
    """Returns one unit for each example, shape (n,)."""
    sums, copies = np.unique(column, return_counts=True)
    return Units(sums, np.ones_like(sums), copies)


def grouped_units(column: NDArray[np.float64], groups: NDArray[np.generic]) -> Units:
    """Returns one unit for each group, both of shape (n,); raises ValueError if a group is missing."""
    require_equal_shapes(column, groups)
    if groups.dtype.kind not in "iu" and pd.isna(groups).any():  # Sorting would join all missing groups into one.
        raise ValueError("expected a group for every example; give one without company an id of its own")
    names, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=column, minlength=len(names)).astype(np.float64)
    sizes = np.bincount(index, minlength=len(names)).astype(np.float64)
    kinds, copies = np.unique(sums + 1j * sizes, return_counts=True)  # sorts by sum, then size; faster than rows
    return Units(kinds.real, kinds.imag, copies)


def resampled_means(units: Units, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    """Returns the mean over examples of each bootstrap sample of whole units, shape (resamples,)."""
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    if not np.isfinite(units.sums).all():
        return np.full(resamples, np.nan)
    n_kinds, n_units = len(units.copies), int(units.copies.sum())
    if n_kinds == 1:  # Exact; the draws below would round.
        return np.full(resamples, units.sums[0] / units.sizes[0])
    draw_counts = n_kinds * INDICES_PER_BINOMIAL <= n_units
    rows = max(1, MAX_CELLS // (n_kinds if draw_counts else n_units))
    draw = _means_from_counts if draw_counts else _means_from_indices
    chunks = [draw(units, rng, min(rows, resamples - start)) for start in range(0, resamples, rows)]
    return np.concatenate(chunks)


def _means_from_counts(units: Units, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    # How often each kind is drawn is multinomial: the same distribution as indices, with far fewer draws.
    n_units = int(units.copies.sum())
    counts = rng.multinomial(n_units, units.copies / n_units, size=resamples).astype(np.float64)
    means: NDArray[np.float64] = (counts @ units.sums) / (counts @ units.sizes)
    return means


def _means_from_indices(units: Units, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    sums, sizes = np.repeat(units.sums, units.copies), np.repeat(units.sizes, units.copies)
    picks = rng.integers(len(sums), size=(resamples, len(sums)))
    alike = sizes[0] == sizes.max() == sizes.min()
    totals = len(sums) * sizes[0] if alike else sizes[picks].sum(axis=1)
    means: NDArray[np.float64] = sums[picks].sum(axis=1) / totals
    return means
