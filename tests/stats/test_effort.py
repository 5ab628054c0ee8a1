from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustness.stats import effort_p_value, less_effort, median_effort, paired_permutation, signed_effort_ranks

NEVER = math.inf
efforts = st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, NEVER])
pairs = st.lists(st.tuples(efforts, efforts), min_size=1, max_size=12)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_arm_that_breaks_with_less_counts_one_and_ties_nothing() -> None:
    found = less_effort([5, 2, 3, NEVER, 9, NEVER, 0], [2, 5, 3, 9, NEVER, NEVER, 0])

    assert found.tolist() == [1, -1, 0, 1, -1, 0, 0]


@given(pairs)
def test_swapping_the_arms_turns_every_sign_and_rank_over(rows: list[tuple[float, float]]) -> None:
    reference, candidate = np.array(rows).T

    assert (less_effort(reference, candidate) == -less_effort(candidate, reference)).all()
    assert (signed_effort_ranks(reference, candidate) == -signed_effort_ranks(candidate, reference)).all()


@given(pairs)
def test_a_sign_is_the_sign_of_its_rank_and_no_unit_matters(rows: list[tuple[float, float]]) -> None:
    reference, candidate = np.array(rows).T

    ranks = signed_effort_ranks(reference, candidate)

    assert (np.sign(ranks) == less_effort(reference, candidate)).all()
    assert (signed_effort_ranks(reference**3 + 1, candidate**3 + 1) == ranks).all()


@given(pairs)
def test_the_ranks_are_those_of_wilcoxons_test_on_the_joint_ranks(rows: list[tuple[float, float]]) -> None:
    reference, candidate = np.array(rows).T
    joint = stats.rankdata(np.concatenate([reference, candidate]))
    differences = joint[: len(rows)] - joint[len(rows) :]

    ranks = signed_effort_ranks(reference, candidate)

    gains, losses = ranks[ranks > 0].sum(), -ranks[ranks < 0].sum()
    if differences.any():
        assert min(gains, losses) == stats.wilcoxon(differences, method="approx").statistic
    assert (ranks[differences == 0] == 0).all()
    moved = int((differences != 0).sum())
    assert gains + losses == moved * (moved + 1) / 2


def test_an_example_that_never_breaks_takes_more_than_any_whatever_it_cost() -> None:
    """A survival curve takes it for an observation cut short at its last query."""
    ranks = signed_effort_ranks([NEVER, 3, 4], [1000, 2, 4])

    assert ranks.tolist() == [1.5, 1.5, 0]
    assert less_effort([NEVER, 1e9], [1e9, NEVER]).tolist() == [1, -1]


def enumerate_signs(sums: list[float]) -> float:
    totals = [abs(float(np.dot(signs, sums))) for signs in itertools.product([-1, 1], repeat=len(sums))]
    return float(np.mean([total >= abs(sum(sums)) - 1e-9 for total in totals]))


@given(pairs)
def test_the_p_value_of_few_examples_counts_all_signs(rows: list[tuple[float, float]]) -> None:
    ranks = signed_effort_ranks(*np.array(rows).T)

    moved = [rank for rank in ranks.tolist() if rank]
    assert effort_p_value(ranks, rng=rng()) == pytest.approx(enumerate_signs(moved) if moved else 1.0)


@pytest.mark.parametrize("n", [10, 25, 50])
def test_the_p_value_without_ties_is_scipys_exact_one(n: int) -> None:
    source = np.random.default_rng(n)
    reference, candidate = source.permutation(2 * n).reshape(2, n) + np.array([[n / 4], [0.5]])
    ranks = signed_effort_ranks(reference, candidate)
    # Signed ranks without ties in them, of which scipy's exact distribution is that of all signs.
    whole = np.sign(ranks) * stats.rankdata(np.abs(ranks), method="ordinal")

    assert effort_p_value(whole, rng=rng()) == pytest.approx(stats.wilcoxon(whole, method="exact").pvalue, rel=1e-6)


@pytest.mark.parametrize("n", [100, 400, 3000])
def test_the_p_value_of_many_examples_is_the_normal_approximation(n: int) -> None:
    source = np.random.default_rng(n)
    reference = source.integers(1, 40, n).astype(float)
    candidate = np.maximum(1, reference - source.integers(-6, 9, n) * (source.random(n) < 0.9))
    candidate[: n // 10] = NEVER
    ranks = signed_effort_ranks(reference, candidate)
    # Of ranks as they are, ties shared: the sum's variance under random signs is the sum of their squares.
    expected = stats.wilcoxon(ranks, correction=False, method="approx").pvalue

    assert np.count_nonzero(ranks) > 60
    assert effort_p_value(ranks, rng=rng()) == pytest.approx(expected, rel=0.02)


def test_the_normal_approximation_meets_the_distribution_of_signs_where_it_takes_over() -> None:
    source = np.random.default_rng(0)
    for _ in range(20):
        ranks = np.arange(1.0, 62) * source.choice([-1, 1], 61, p=[0.4, 0.6])
        exact = paired_permutation(ranks, rng=rng())

        assert effort_p_value(ranks, rng=rng()) == pytest.approx(exact, abs=0.01)


@given(pairs, st.integers(2, 4))
def test_groups_flip_as_one(rows: list[tuple[float, float]], size: int) -> None:
    ranks = signed_effort_ranks(*np.array(rows).T)
    groups = np.arange(len(rows)) // size
    sums = [float(ranks[groups == group].sum()) for group in np.unique(groups)]
    moved = [total for total in sums if total]

    found = effort_p_value(ranks, groups, rng=rng())

    assert found == pytest.approx(enumerate_signs(moved) if moved else 1.0)


def test_many_groups_are_approximated_by_their_sums() -> None:
    source = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 3)
    ranks = np.repeat(source.normal(0.1, 1, 200), 3)
    sums = np.bincount(groups, weights=ranks)

    found = effort_p_value(ranks, groups, rng=rng())

    assert found == pytest.approx(2 * stats.norm.sf(abs(sums.sum()) / np.sqrt((sums**2).sum())))
    assert found > effort_p_value(ranks, rng=rng())


def test_equal_arms_are_rarely_called_apart_and_pairing_finds_what_is_there() -> None:
    """Efforts that correlate by .8; of equal arms 40 % are never."""
    source, false, found, unpaired = np.random.default_rng(0), [], [], []
    for _ in range(400):
        spent = np.exp(0.9 * source.normal(size=(1, 150)) + 0.44 * source.normal(size=(2, 150)))
        less = spent[0], 0.8 * spent[1]
        found.append(effort_p_value(signed_effort_ranks(*less), rng=source) <= 0.05)
        unpaired.append(stats.mannwhitneyu(*less).pvalue <= 0.05)
        spent[spent > 1.25] = NEVER
        false.append(effort_p_value(signed_effort_ranks(*spent), rng=source) <= 0.05)

    assert np.mean(false) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)
    assert np.mean(found) >= 0.95 and np.mean(unpaired) < 0.6


def test_no_examples_have_no_p_value_and_equal_ones_a_p_value_of_one() -> None:
    assert math.isnan(effort_p_value([], rng=rng()))
    assert effort_p_value(signed_effort_ranks([3, NEVER], [3, NEVER]), rng=rng()) == 1.0


@pytest.mark.parametrize(
    ("spent", "expected"),
    [
        ([3, 1, NEVER, 2], 2),
        ([3, 1, NEVER], 3),
        ([1, NEVER], 1),
        ([7], 7),
        ([1, NEVER, NEVER], math.nan),
        ([NEVER], math.nan),
        ([], math.nan),
    ],
)
def test_the_median_effort_is_where_half_are_broken(spent: list[float], expected: float) -> None:
    assert median_effort(spent) == pytest.approx(expected, nan_ok=True)


def test_unknown_efforts_and_unpaired_columns_are_refused() -> None:
    for compare in (less_effort, signed_effort_ranks):
        with pytest.raises(ValueError, match="infinite"):
            compare([1.0, math.nan], [1.0, 2.0])
        with pytest.raises(ValueError, match="infinite"):
            compare([1.0, 2.0], [1.0, math.nan])
        with pytest.raises(ValueError, match="one shape"):
            compare([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one shape"):
        effort_p_value([1.0, 2.0], ["a"], rng=rng())
