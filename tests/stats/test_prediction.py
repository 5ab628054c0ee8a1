from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from robustness.stats import auc, rank_correlation

rows = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({broken for _, broken in pairs}) == 2
)


@given(rows)
def test_the_area_is_scikit_learns_and_turns_over_with_the_values(pairs: list[tuple[int, bool]]) -> None:
    values, broken = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])

    found = auc(values, broken)

    assert found.auc == pytest.approx(roc_auc_score(broken, values))
    assert auc(-values, broken).auc == pytest.approx(1 - found.auc)


def test_the_interval_contains_the_area_and_stays_between_zero_and_one() -> None:
    source = np.random.default_rng(0)
    values, broken = source.integers(0, 6, 40), source.random(40) < 0.4

    found = auc(values, broken)

    assert 0 < found.interval.low < found.auc < found.interval.high < 1


@pytest.mark.parametrize(("n_broken", "n_withstood"), [(5, 5), (5, 40), (40, 5), (50, 70)])
@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_interval_of_an_area_covers_the_truth(
    n_broken: int, n_withstood: int, truth: float, spread: float
) -> None:
    """Normal values, those of the broken `spread` times as wide: 400 draws, 95 % less three standard errors."""
    source = np.random.default_rng(0)
    shift = NormalDist().inv_cdf(truth) * math.sqrt(1 + spread**2)
    broken = np.arange(n_broken + n_withstood) < n_broken
    inside = 0
    for _ in range(400):
        values = source.normal(size=len(broken))
        interval = auc(np.where(broken, spread * values + shift, values), broken).interval
        inside += interval.low <= truth <= interval.high

    assert inside / 400 >= 0.95 - 0.033


@pytest.mark.parametrize(("m", "n"), [(5, 5), (30, 80)])
def test_a_perfect_predictor_has_newcombes_interval_not_an_empty_one(m: int, n: int) -> None:
    """At an AUC of 1 the lower end t solves (1 - t) = 1.96^2 t (1 + N [...]) / (m n): Newcombe's method 5."""
    broken = np.arange(m + n) < m

    found = auc(broken.astype(float), broken)

    low, balanced = found.interval.low, (m + n) / 2 - 1
    variance = low * (1 - low) / (m * n) * (1 + balanced * ((1 - low) / (2 - low) + low / (1 + low)))
    assert found.auc == found.interval.high == 1.0
    assert 1 - low == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6) and low < 0.97
    turned = auc(-broken.astype(float), broken)
    assert (turned.auc, turned.interval.low) == (0.0, 0.0) and turned.interval.high == pytest.approx(1 - low)


def test_a_predictor_needs_both_outcomes_and_values_that_are_known() -> None:
    for found in (auc([1, 2], [1, 1]), auc([1, 2], [0, 0]), auc([1, math.nan], [0, 1])):
        assert math.isnan(found.auc) and math.isnan(found.interval.low) and math.isnan(found.interval.high)
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]).auc == 1.0


def test_a_rank_correlation_needs_spread() -> None:
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(rank_correlation([1], [2])) and math.isnan(rank_correlation([], []))
    assert math.isnan(rank_correlation([1, 2, 3], [5, 5, 5]))
    assert rank_correlation([1, 2, 1], [3, 4, 3]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [1, 10, 100]) == pytest.approx(1)
