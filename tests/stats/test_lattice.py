"""Computed distributions against lists of all draws, and against many draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.stats.lattice import bootstrap_ends, flip_p_value
from robustness.stats.resampling import Units, grouped_units, resampled_means, single_units


def brute_ends(units: Units, level: float) -> tuple[float, float]:
    """The ends from the list of every resample: the smallest and largest value with enough at or beyond it."""
    rows = np.repeat(np.column_stack([units.sums, units.sizes]), units.copies, axis=0)
    drawn = np.array(
        [rows[list(picks)].sum(axis=0) for picks in itertools.product(range(len(rows)), repeat=len(rows))]
    )
    means, share = np.sort(drawn[:, 0] / drawn[:, 1]), (1 - level) / 2 - 1e-9
    low = next(m for m in means if (means <= m + 1e-12).mean() >= share)
    high = next(m for m in means[::-1] if (means >= m - 1e-12).mean() >= share)
    return float(low), float(high)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-2, 2), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 4), min_size=5, max_size=5),
    level=st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_ends_are_those_of_the_list_of_all_resamples(values: list[int], sizes: list[int], level: float) -> None:
    groups = np.repeat(np.arange(len(values)), sizes[: len(values)])
    column = np.repeat(np.array(values, dtype=float), sizes[: len(values)])

    for units in (single_units(np.array(values, dtype=float)), grouped_units(column, groups)):
        assert bootstrap_ends(units, level) == pytest.approx(brute_ends(units, level), abs=1e-9)


@pytest.mark.parametrize("n", [150, 3560])
def test_the_ends_are_those_of_many_draws(n: int) -> None:
    source = np.random.default_rng(n)
    groups = np.repeat(np.arange(n), source.integers(1, 6, n))[:n]
    column = source.choice([-1.0, 0.0, 1.0], n, p=[0.1, 0.7, 0.2])
    units = grouped_units(column, groups)
    drawn = resampled_means(units, source, 40_000)

    low, high = bootstrap_ends(units, 0.95)

    assert (drawn < low - 1e-9).mean() <= 0.025 + 0.004 and (drawn <= low + 1e-9).mean() >= 0.025 - 0.004
    assert (drawn > high + 1e-9).mean() <= 0.025 + 0.004 and (drawn >= high - 1e-9).mean() >= 0.025 - 0.004


def test_swapping_the_arms_swaps_the_ends_exactly() -> None:
    source = np.random.default_rng(0)
    column, groups = source.choice([-1.0, 0.0, 1.0], 200, p=[0.1, 0.7, 0.2]), source.integers(60, size=200)

    for one, other in (
        (single_units(column), single_units(-column)),
        (grouped_units(column, groups), grouped_units(-column, groups)),
    ):
        low, high = bootstrap_ends(one, 0.95)
        assert bootstrap_ends(other, 0.95) == pytest.approx((-high, -low), abs=1e-12)


def test_what_is_no_whole_number_or_too_large_is_left_to_draws() -> None:
    assert bootstrap_ends(single_units(np.array([0.5, 1.0])), 0.95) is None
    assert bootstrap_ends(single_units(np.array([0.0, 1e12])), 0.95) is None
    assert flip_p_value(np.array([0.5]), np.array([3]), 1.5) is None
    assert flip_p_value(np.array([1e6]), np.array([3]), 1e6) is None


@given(st.lists(st.integers(1, 6), min_size=1, max_size=10), st.data())
def test_the_p_value_of_random_signs_is_the_share_of_all_patterns(sizes: list[int], data: st.DataObject) -> None:
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(sizes), max_size=len(sizes)))
    observed = abs(int(np.dot(signs, sizes)))
    patterns = [abs(int(np.dot(pattern, sizes))) for pattern in itertools.product((-1, 1), repeat=len(sizes))]

    found = flip_p_value(np.array(sizes, dtype=float), np.ones(len(sizes), dtype=np.int64), observed)

    assert found == pytest.approx(np.mean([total >= observed for total in patterns]))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_the_ends_are_exact_where_groups_differ_in_size_by_far(seed: int, level: float) -> None:
    """Ratios of resamples then lie as close as 1 / 40 to 1 / 2000 of each other."""
    source = np.random.default_rng(seed)
    sizes = source.permutation([1, 2, 9, 13, 20])
    units = grouped_units(source.choice([-1.0, 0.0, 1.0], sizes.sum()), np.repeat(np.arange(5), sizes))

    assert bootstrap_ends(units, level) == pytest.approx(brute_ends(units, level), abs=1e-9)
