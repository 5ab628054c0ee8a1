from __future__ import annotations

import math

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


def test_the_interval_of_the_area_covers_the_truth() -> None:
    source, inside = np.random.default_rng(0), 0
    truth = 0.7602  # Phi(1 / sqrt 2)
    for _ in range(400):
        broken = np.arange(120) < 50
        interval = auc(source.normal(size=120) + broken, broken).interval
        inside += interval.low <= truth <= interval.high

    assert inside / 400 >= 0.95 - 0.033


def test_a_predictor_needs_both_outcomes_and_values_that_are_known() -> None:
    for found in (auc([1, 2], [1, 1]), auc([1, 2], [0, 0]), auc([1, math.nan], [0, 1])):
        assert math.isnan(found.auc) and math.isnan(found.interval.low) and math.isnan(found.interval.high)
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]).auc == 1.0


def test_a_rank_correlation_needs_spread() -> None:
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(rank_correlation([1], [2]))
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [1, 10, 100]) == pytest.approx(1)
