from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from robustness.stats import holm, mcnemar_exact, mcnemar_mid_p
from robustness.stats.paired import PairedTest

outcome_pairs = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)
p_values = st.lists(st.floats(0, 1), max_size=12)


def arms(table: tuple[int, int, int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    cells = [(True, True), (True, False), (False, True), (False, False)]
    rows = [cell for cell, count in zip(cells, table, strict=True) for _ in range(count)]
    pairs = np.array(rows, dtype=bool).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def share_of_arm_swaps_at_least_as_uneven(only_reference: int, only_candidate: int) -> float:
    sums = [abs(sum(signs)) for signs in itertools.product([-1, 1], repeat=only_reference + only_candidate)]
    return float(np.mean([total >= abs(only_reference - only_candidate) for total in sums]))


def test_mcnemar_is_the_share_of_arm_swaps_at_least_as_uneven_for_every_small_table() -> None:
    tables = [t for t in itertools.product(range(8), repeat=4) if sum(t) <= 7]

    for table in tables:
        found = mcnemar_exact(*arms(table))

        assert (found.only_reference_right, found.only_candidate_right) == (table[1], table[2])
        assert found.p_value == pytest.approx(share_of_arm_swaps_at_least_as_uneven(table[1], table[2]))


@given(outcome_pairs)
def test_mcnemar_agrees_with_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    reference, candidate = [a for a, _ in pairs], [b for _, b in pairs]
    only_reference = sum(a and not b for a, b in pairs)
    only_candidate = sum(b and not a for a, b in pairs)

    found = mcnemar_exact(reference, candidate)

    # Its pvalue of a balanced table may exceed 1.
    expected = min(1.0, mcnemar([[0, only_reference], [only_candidate, 0]], exact=True).pvalue)
    assert found.p_value == pytest.approx(expected)


@given(outcome_pairs)
def test_swapping_the_arms_of_mcnemar_swaps_the_counts_and_keeps_p(pairs: list[tuple[bool, bool]]) -> None:
    reference, candidate = [a for a, _ in pairs], [b for _, b in pairs]

    found, swapped = mcnemar_exact(reference, candidate), mcnemar_exact(candidate, reference)

    assert swapped == PairedTest(found.name, found.p_value, found.only_candidate_right, found.only_reference_right)
    assert 0 <= found.p_value <= 1


@pytest.mark.parametrize("outcomes", [[], [True], [True, False, True]])
def test_equal_arms_have_a_p_value_of_one(outcomes: list[bool]) -> None:
    assert mcnemar_exact(outcomes, outcomes) == PairedTest("mcnemar-exact", 1.0, 0, 0)


def test_mcnemar_stays_exact_on_thousands_of_discordant_pairs() -> None:
    reference = np.arange(3000) < 3000

    assert mcnemar_exact(reference, ~reference).p_value == pytest.approx(0.0, abs=1e-300)


def test_mcnemar_refuses_arms_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="one shape"):
        mcnemar_exact([True], [True, False])
    with pytest.raises(ValueError, match="0 or 1"):
        mcnemar_exact([0.5], [1.0])


def test_holm_gives_the_textbook_values() -> None:
    adjusted = holm([0.01, 0.04, 0.03, 0.005])

    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values)
def test_holm_matches_its_definition(values: list[float]) -> None:
    expected, running = {}, 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        running = max(running, min(1.0, (len(values) - rank) * values[index]))
        expected[index] = running

    adjusted = holm(values)

    assert adjusted.tolist() == pytest.approx([expected[i] for i in range(len(values))])


@given(values=p_values, place=st.integers(0, 12))
def test_a_nan_stays_nan_and_does_not_count_in_the_family(values: list[float], place: int) -> None:
    with_nan = [*values[:place], math.nan, *values[place:]]

    adjusted = holm(with_nan)

    assert np.flatnonzero(np.isnan(adjusted)).tolist() == [min(place, len(values))]
    assert adjusted[~np.isnan(adjusted)].tolist() == holm(values).tolist()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(values: list[float]) -> None:
    with mock.patch("gc.collect"):  # its habit, 20 to 50 ms a call
        expected = multipletests(values, method="holm")[1]

    assert holm(values).tolist() == pytest.approx(expected.tolist(), rel=1e-12, abs=1e-12)


@given(p_values)
def test_holm_lies_between_the_raw_and_the_bonferroni_values(values: list[float]) -> None:
    raw = np.array(values)

    adjusted = holm(raw)

    assert (raw <= adjusted).all()
    assert (adjusted <= np.minimum(1, raw * len(raw)) + 1e-12).all()


def test_holm_of_an_empty_family_or_of_nans_alone_changes_nothing() -> None:
    assert holm([]).shape == (0,)
    assert np.isnan(holm([math.nan, math.nan])).all()


def test_holm_leaves_its_argument_as_it_was() -> None:
    values = np.array([0.01, 0.04])

    holm(values)

    assert values.tolist() == [0.01, 0.04]


@pytest.mark.parametrize("stranger", [-0.1, 1.1])
def test_holm_refuses_what_is_no_probability(stranger: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, stranger])


@pytest.mark.parametrize("each", [1, 3])
def test_arms_that_win_equally_often_have_a_mid_p_value_of_one(each: int) -> None:
    assert mcnemar_mid_p([1] * each + [0] * each, [0] * each + [1] * each).p_value == 1.0


def test_the_mid_p_test_counts_each_arm_and_says_its_name() -> None:
    found = mcnemar_mid_p([1, 1, 1, 0, 1], [0, 0, 1, 1, 0])

    assert (found.name, found.only_reference_right, found.only_candidate_right) == ("mcnemar-mid-p", 3, 1)
    assert found.p_value == pytest.approx(2 * (1 / 16 + 4 / 32))  # none or half of one of four
