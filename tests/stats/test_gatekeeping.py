"""Families with gatekeepers against Holm, against closed testing of all intersections, and by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from robustness.stats import Branch, gatekeep, holm

Weights = dict[int, float]
"""Of the hypotheses of one intersection; their sum is at most 1."""

p_values = st.sampled_from([0.0, 0.001, 0.01, 0.0125, 0.02, 0.03, 0.05, 0.5, 1.0]) | st.floats(0, 1)


def singles(n: int) -> list[Branch]:
    return [Branch(None, (place,)) for place in range(n)]


@st.composite
def families(draw: st.DrawFn, *, open_too: bool) -> tuple[list[float], list[Branch]]:
    """Up to three test sets with up to three attacks, at most seven comparisons."""
    branches, n = [], 0
    for members in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)):
        places = tuple(range(n, n + members + 1))
        is_open = open_too and draw(st.booleans())
        branches.append(Branch(places[0], places[1:], is_open) if members else Branch(None, places))
        n += members + 1
        if n > 4:
            break
    return draw(st.lists(p_values, min_size=n, max_size=n)), branches


@given(st.lists(p_values, max_size=12))
def test_a_family_of_single_comparisons_is_holms(values: list[float]) -> None:
    assert gatekeep(values, singles(len(values))) == pytest.approx(holm(values), abs=1e-12)


@given(st.lists(p_values, min_size=1, max_size=12))
def test_a_family_of_single_comparisons_agrees_with_statsmodels(values: list[float]) -> None:
    with mock.patch("gc.collect"):  # its habit, 20 to 50 ms a call
        expected = multipletests(values, method="holm")[1]

    assert gatekeep(values, singles(len(values))) == pytest.approx(expected, abs=1e-12)


def closed_test(values: Sequence[float], weigh: Callable[[frozenset[int]], Weights]) -> list[float]:
    """Adjusted p-values by the closure principle: the largest p-value of all intersections with a hypothesis."""
    adjusted = [0.0] * len(values)
    for size in range(1, len(values) + 1):
        for chosen in itertools.combinations(range(len(values)), size):
            weights = weigh(frozenset(chosen))
            p_value = min([1.0, *(values[i] / weights[i] for i in chosen if weights[i] > 1e-8)])
            for place in chosen:
                adjusted[place] = max(adjusted[place], p_value)
    return adjusted


def share_evenly(branches: Sequence[Branch], left: frozenset[int]) -> Weights:
    """Branches that are left share evenly; a gate has all of its branch's, and without it the members have."""
    heads = []
    for branch in branches:
        members = [place for place in branch.members if place in left]
        heads.append([branch.gate] if branch.gate in left else members)
    known = [places for places in heads if places]
    weights = dict.fromkeys(left, 0.0)
    for places in known:
        weights |= {place: 1 / len(known) / len(places) for place in places if place is not None}
    return weights


@settings(max_examples=150)
@given(families(open_too=False))
def test_closed_gates_are_closed_testing_of_all_intersections(family: tuple[list[float], list[Branch]]) -> None:
    values, branches = family

    expected = closed_test(values, lambda left: share_evenly(branches, left))

    assert gatekeep(values, branches) == pytest.approx(expected, abs=1e-9)


def draw_graph(n: int, branches: Sequence[Branch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels and arrows as the docstring tells them: to members or siblings, a trace to the heads of others."""
    trace = 1e-7
    levels, arrows = np.zeros(n), np.zeros((n, n))
    head = {id(branch): branch.members[0] if branch.gate is None else branch.gate for branch in branches}
    for branch in branches:
        if branch.is_open:
            levels[branch.gate] = 0.5 / len(branches)
            levels[list(branch.members)] = 0.5 / len(branch.members) / len(branches)
        else:
            levels[head[id(branch)]] = 1 / len(branches)
        others = [head[id(other)] for other in branches if other is not branch]
        for place in branch.places:
            targets = [member for member in branch.members if member != place]
            arrows[place, targets] = (1 - trace) / max(1, len(targets))
            arrows[place, others] = (trace if targets else 1) / max(1, len(others))
    return levels, arrows


def absorb(levels: NDArray[np.float64], arrows: NDArray[np.float64], left: frozenset[int]) -> Weights:
    """Where levels end that wander along the arrows until they meet a hypothesis that is left."""
    stay = sorted(left)
    gone = [place for place in range(len(levels)) if place not in left]
    weights = levels[stay]
    if gone:
        onward = np.linalg.solve(np.eye(len(gone)) - arrows[np.ix_(gone, gone)], arrows[np.ix_(gone, stay)])
        weights = weights + levels[gone] @ onward
    return dict(zip(stay, weights.tolist(), strict=True))


@settings(max_examples=150)
@given(families(open_too=True))
def test_open_gates_are_closed_testing_along_the_graph(family: tuple[list[float], list[Branch]]) -> None:
    values, branches = family
    levels, arrows = draw_graph(len(values), branches)

    expected = closed_test(values, lambda left: absorb(levels, arrows, left))

    found = gatekeep(values, branches)
    assert found == pytest.approx(expected, abs=1e-5)
    assert ((found >= np.array(values)) & (found <= 1)).all()


@given(families(open_too=True))
def test_a_member_is_never_surer_than_its_closed_gate(family: tuple[list[float], list[Branch]]) -> None:
    values, branches = family

    adjusted = gatekeep(values, branches)

    for branch in branches:
        if branch.gate is not None and not branch.is_open:
            assert all(adjusted[member] >= adjusted[branch.gate] for member in branch.members)


def test_a_member_waits_for_its_gate_unless_the_branch_is_open() -> None:
    values = [0.9, 0.001, 0.04]

    assert gatekeep(values, [Branch(0, (1, 2))]).tolist() == pytest.approx([0.9, 0.9, 0.9])
    # Half of the level, shared by two: a quarter; then the second has that half alone.
    opened = gatekeep(values, [Branch(0, (1, 2), is_open=True)])
    assert opened.tolist() == pytest.approx([1.0, 0.004, 0.08])


def test_a_gate_hands_its_whole_level_to_its_members_and_a_finished_branch_to_the_other() -> None:
    first, second = Branch(0, (1, 2)), Branch(3, (4,))

    adjusted = gatekeep([0.01, 0.005, 0.02, 0.04, 0.03], [first, second])

    # 2 x .01; 4 x .005; 2 x .02 once its sibling is gone; then all of the level is the other branch's.
    assert adjusted.tolist() == pytest.approx([0.02, 0.02, 0.04, 0.04, 0.04])


def test_a_test_that_could_not_be_made_holds_no_share() -> None:
    whole = gatekeep([0.02, 0.03], [Branch(0, (1,))])

    with_nan = gatekeep([math.nan, 0.02, 0.03, math.nan], [Branch(None, (0,)), Branch(1, (2, 3))])

    assert np.isnan(with_nan[[0, 3]]).all()
    assert with_nan[1:3].tolist() == whole.tolist()


def test_members_whose_gate_could_not_be_made_share_its_level() -> None:
    adjusted = gatekeep([math.nan, 0.01, 0.02], [Branch(0, (1, 2))])

    assert adjusted[1:].tolist() == holm([0.01, 0.02]).tolist()


def test_an_empty_family_and_one_of_nans_have_nothing_to_adjust() -> None:
    assert gatekeep([], []).shape == (0,)
    assert np.isnan(gatekeep([math.nan, math.nan], [Branch(0, (1,))])).all()


@pytest.mark.parametrize("stranger", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(stranger: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        gatekeep([0.5, stranger], singles(2))


@given(family=families(open_too=True), data=st.data())
def test_the_order_of_rows_branches_and_members_does_not_matter(
    family: tuple[list[float], list[Branch]], data: st.DataObject
) -> None:
    values, branches = family
    order = data.draw(st.permutations(range(len(values))))
    moved = {place: new for new, place in enumerate(order)}
    shuffled = [
        Branch(
            None if branch.gate is None else moved[branch.gate],
            tuple(moved[place] for place in data.draw(st.permutations(branch.members))),
            branch.is_open,
        )
        for branch in data.draw(st.permutations(branches))
    ]

    found = gatekeep([values[place] for place in order], shuffled)

    assert found == pytest.approx(gatekeep(values, branches)[list(order)], abs=1e-9)


@given(family=families(open_too=True), data=st.data())
def test_a_smaller_p_value_makes_no_comparison_less_sure(
    family: tuple[list[float], list[Branch]], data: st.DataObject
) -> None:
    values, branches = family
    place = data.draw(st.integers(0, len(values) - 1))
    lower = [value / 2 if i == place else value for i, value in enumerate(values)]

    assert (gatekeep(lower, branches) <= gatekeep(values, branches) + 1e-9).all()


TWO_SETS = [Branch(0, (1, 2, 3)), Branch(4, (5, 6))]
OPENED = [Branch(0, (1, 2, 3), is_open=True), Branch(4, (5, 6))]


@pytest.mark.parametrize(
    "branches", [TWO_SETS, OPENED, [Branch(0, (1, 2, 3)), *[Branch(None, (i,)) for i in (4, 5, 6)]]]
)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    "false",
    [(), (0,), (0, 4), (0, 1, 4), (1,), (4, 5, 6)],
    ids=["all null", "a gate false", "both gates false", "a member false too", "behind its gate", "a branch false"],
)
def test_any_false_rejection_is_as_rare_as_the_level_says(
    branches: list[Branch], correlation: float, false: tuple[int, ...]
) -> None:
    """1,000 families of two-sided tests with a common part; two Monte Carlo errors."""
    rng, runs = np.random.default_rng(0), 1000
    shared, own = rng.normal(size=(runs, 1)), rng.normal(size=(runs, 7))
    scores = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    scores[:, list(false)] += 3.0
    nulls = [place for place in range(7) if place not in false]

    tests = 2 * stats.norm.sf(np.abs(scores))
    wrong = sum((gatekeep(row, branches)[nulls] <= 0.05).any() for row in tests)

    assert wrong / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
