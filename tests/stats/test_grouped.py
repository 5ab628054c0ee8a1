from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.stats.grouped import sign_flip_test, worst_per_group

differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=9)


@given(differences)
def test_few_signs_are_all_tried(values: list[float]) -> None:
    found = sign_flip_test(values, rng=np.random.default_rng(0)).p_value

    observed = abs(sum(values))
    totals = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product([1, -1], repeat=len(values))
    ]
    assert found == pytest.approx(np.mean([total >= observed - 1e-9 for total in totals]))


@given(differences)
def test_swapping_the_arms_changes_nothing(values: list[float]) -> None:
    one = sign_flip_test(values, rng=np.random.default_rng(0)).p_value
    other = sign_flip_test([-value for value in values], rng=np.random.default_rng(0)).p_value

    assert one == pytest.approx(other)


def test_rows_of_one_group_count_once() -> None:
    alone = sign_flip_test([1.0, 1.0], rng=np.random.default_rng(0)).p_value
    repeated = sign_flip_test([1.0] * 20, ["a", "b"] * 10, rng=np.random.default_rng(0)).p_value

    assert alone == repeated == 0.5


def test_many_small_differences_of_one_sign_are_significant_and_mixed_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    one_sided = rng.random(200) + 0.1
    mixed = rng.normal(size=200)
    mixed -= mixed.mean()

    assert sign_flip_test(one_sided, rng=rng).p_value == pytest.approx(2e-4)
    assert sign_flip_test(mixed, rng=rng).p_value > 0.9


def test_equal_arms_give_one() -> None:
    assert sign_flip_test([0.0, 0.0], rng=np.random.default_rng(0)).p_value == 1


def test_the_worst_of_each_group_is_kept() -> None:
    values, groups = worst_per_group([0.5, 1.0, 0.0, 0.75], ["b", "a", "b", "a"])

    assert list(zip(groups, values, strict=True)) == [("a", 0.75), ("b", 0.0)]
