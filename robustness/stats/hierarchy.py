"""Several training seeds of each arm: a claim about a method, not about two checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustness.stats.intervals import Interval
from robustness.stats.resampling import MAX_CELLS


@dataclass(frozen=True, slots=True)
class SeededDifference:
    """The mean difference over seeds and examples."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided, of the interval's own bootstrap."""


def bootstrap_over_seeds(
    differences: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> SeededDifference:
    r"""Returns the mean paired difference with what both training seeds and examples add to its uncertainty.

    Each sample draws seeds, then whole groups of examples, with replacement. The examples are the same under every
    seed, so one draw of them serves all seeds of a sample: drawing them anew for each would hide what they share. The
    seeds' deviations from their mean are stretched by $\sqrt{S / (S - 1)}$, without which few seeds look too sure.
    One example of difference +1 and one of -1 join the draw (Bonett and Price), as in `paired_difference_interval`.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8; Bouthillier et al.,
    arXiv 2103.03098, on variance of training seeds.

    Args:
        differences: Full minus PEFT of one example under one seed, shape (seeds, n).
        groups: The group of each example, shape (n,); None: every example is its own.
        rng: Where the draws come from; tables of as many groups share them where its state is the same.
        resamples: Number of bootstrap samples.
        level: Coverage aimed at.

    Raises:
        ValueError: Not two dimensions, fewer than two seeds, or groups of another length.

    >>> found = bootstrap_over_seeds([[1, 0, 0, 0] * 50, [1, 1, 0, 0] * 50], rng=np.random.default_rng(0))
    >>> found.difference
    0.375
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"expected at least two rows of seeds, got the shape {table.shape}")
    if table.shape[1] == 0 or not np.isfinite(table).all():
        return SeededDifference(math.nan, Interval(math.nan, math.nan), math.nan)
    sums, sizes = _group_sums(table, groups)
    seed = int(rng.integers(2**63))
    counts = _chunks(resamples, sums.shape[1])
    samples = np.concatenate([_draw(sums, sizes, (seed, number), count) for number, count in enumerate(counts)])
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    tail = min((1 + (samples <= 0).sum()) / (resamples + 1), (1 + (samples >= 0).sum()) / (resamples + 1))
    return SeededDifference(float(table.mean()), Interval(float(low), float(high)), min(1.0, 2 * float(tail)))


def _group_sums(
    table: NDArray[np.float64], groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums by seed and unit, shape (seeds, units), and unit sizes; the two further examples are units."""
    n = table.shape[1]
    names = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if names.shape != (n,):
        raise ValueError(f"expected {n} groups, got the shape {names.shape}")
    sums = np.stack([np.bincount(names, weights=row).astype(np.float64) for row in table])
    sizes = np.bincount(names).astype(np.float64)
    sums = np.concatenate([sums, np.ones((len(table), 1)), -np.ones((len(table), 1))], axis=1)
    return sums, np.concatenate([sizes, [1.0, 1.0]])


def _chunks(resamples: int, units: int) -> list[int]:
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    rows = max(1, MAX_CELLS // units)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def _draw(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], seed: tuple[int, int], count: int
) -> NDArray[np.float64]:
    seeds, units = sums.shape
    weights = _count_units(seed, count, units).astype(np.float64)
    means = (weights @ sums.T) / (weights @ sizes)[:, None]
    center = means.mean(axis=1, keepdims=True)
    stretched = center + (means - center) * math.sqrt(seeds / (seeds - 1))
    drawn = np.random.default_rng([*seed, seeds]).integers(seeds, size=(count, seeds))
    result: NDArray[np.float64] = np.take_along_axis(stretched, drawn, axis=1).mean(axis=1)
    return result


@lru_cache(maxsize=64)
def _count_units(seed: tuple[int, int], count: int, units: int) -> NDArray[np.uint8]:
    """How often each unit is in each sample, shape (count, units); made once for all tables of one size and seed."""
    picks = np.random.default_rng(seed).integers(units, size=(count, units))
    flat = (picks + units * np.arange(count)[:, None]).ravel()
    return np.bincount(flat, minlength=count * units).reshape(count, units).astype(np.uint8)
