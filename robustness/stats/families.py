"""Adjusts the p-values of many tests together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from robustness.stats.arrays import number_column


class Correction(StrEnum):
    """The adjustment of a family's p-values."""

    HOLM = "holm"
    BENJAMINI_HOCHBERG = "benjamini-hochberg"


def adjust(p_values: ArrayLike, correction: Correction) -> NDArray[np.float64]:
    """Returns the adjusted p-values of one family, in the order given, shape (n,); raises what `holm` does.

    >>> adjust([0.01, 0.02], Correction.HOLM)
    array([0.02, 0.02])
    """
    return holm(p_values) if correction == Correction.HOLM else benjamini_hochberg(p_values)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Returns Holm's adjusted p-values of one family of tests, in the order given, shape (n,).

    With the m p-values sorted upwards, $$\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)}).$$ Reject
    where the adjusted value is at most alpha. Then the chance of any false rejection is at most alpha, for tests with
    any dependence. A nan (an impossible test) stays nan and does not count in m.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> holm([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.06, 0.06])
    """
    return _adjusted(p_values, _step_down)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    r"""Returns Benjamini and Hochberg's adjusted p-values of one family of tests, in the order given, shape (n,).

    With the m p-values sorted upwards, $$\tilde p_{(i)} = \min_{j \ge i} \min(1, m p_{(j)} / j).$$
    Reject where the adjusted value is at most q. Then the expected share of false rejections is at most q, for tests
    that are independent or depend on each other positively. nan as in `holm`.

    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289-300.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> benjamini_hochberg([0.01, float("nan"), 0.04, 0.03])
    array([0.03,  nan, 0.04, 0.04])
    """
    return _adjusted(p_values, _step_up)


def _checked(p_values: ArrayLike) -> NDArray[np.float64]:
    column = number_column(p_values)
    if ((column < 0) | (column > 1)).any():
        raise ValueError("expected p-values between 0 and 1")
    return column


def _adjusted(
    p_values: ArrayLike, method: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    adjusted = _checked(p_values).copy()
    made = ~np.isnan(adjusted)
    if made.any():
        adjusted[made] = method(adjusted[made])
    return adjusted


def _step_down(values: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _step_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
    adjusted: NDArray[np.float64] = false_discovery_control(values, method="bh")
    return adjusted


@dataclass(frozen=True, slots=True)
class Branch:
    """The planned comparisons of one test set, by their places in the family."""

    gate: int | None
    """The worst case over its attacks; None for a single attack."""
    members: tuple[int, ...]
    """Its attacks, or its only comparison."""
    is_open: bool = False
    """Whether the members get half of the branch's level even if the gate is not rejected."""

    @property
    def places(self) -> tuple[int, ...]:
        """The gate, if there is one, and the members."""
        return self.members if self.gate is None else (self.gate, *self.members)


def gatekeep(p_values: ArrayLike, branches: Sequence[Branch]) -> NDArray[np.float64]:
    r"""Returns the adjusted p-values of a family whose branches have gatekeepers, in the order given, shape (n,).

    A sequentially rejective graph of weighted Bonferroni tests. The branches share the level evenly. A rejected gate
    passes its share evenly to its members; rejected members pass theirs to one another. A completely rejected branch
    passes its share to the other branches. If every branch is one comparison, this is Holm's procedure. The chance of
    any false rejection is at most alpha, however the tests depend on each other.

    Source: Bretz, Maurer, Brannath and Posch, Statistics in Medicine 28 (2009), 586-604, algorithm 2.

    Args:
        p_values: Shape (n,); a nan (an impossible test) stays nan and holds no share of the level.
        branches: The rows that belong together; every row in exactly one place.

    Raises:
        ValueError: A p-value is outside [0, 1].

    >>> gatekeep([0.04, 0.001], [Branch(0, (1,))])  # the member waits for its gate
    array([0.04, 0.04])
    >>> gatekeep([0.01, 0.03], [Branch(None, (0,)), Branch(None, (1,))])  # Holm
    array([0.02, 0.03])
    """
    values = _checked(p_values)
    known = [_without(branch, np.isnan(values)) for branch in branches]
    weights, transfers = _graph(
        len(values), [branch for branch in known if branch.gate is not None or branch.members]
    )
    adjusted, floor = np.full(len(values), np.nan), 0.0
    left = {place for branch in known for place in branch.places}
    while left:
        # A hypothesis without weight cannot be rejected yet.
        place = min(left, key=lambda i: (values[i] / weights[i] if weights[i] > 0 else np.inf, i))
        share = min(1.0, weights[place])  # rounding must not lower a p-value
        floor = max(floor, min(1.0, values[place] / share)) if share > 0 else 1.0
        adjusted[place] = floor
        left.remove(place)
        weights, transfers = _pass_on(place, weights, transfers)
    return adjusted


NEGLIGIBLE = 1e-12
"""Share that leaves a branch before its complete rejection; without it nothing could leave afterwards."""


def _without(branch: Branch, missing: NDArray[np.bool_]) -> Branch:
    gate = None if branch.gate is None or missing[branch.gate] else branch.gate
    return Branch(gate, tuple(place for place in branch.members if not missing[place]), branch.is_open)


def _graph(n: int, branches: Sequence[Branch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights, transfers = np.zeros(n), np.zeros((n, n))
    heads = [(branch.gate,) if branch.gate is not None else branch.members for branch in branches]
    for number, branch in enumerate(branches):
        others = [place for i, head in enumerate(heads) if i != number for place in head]
        shares = {place: 1 / len(heads[number]) for place in heads[number]}
        if branch.gate is not None and branch.members and branch.is_open:
            shares = {branch.gate: 0.5} | {place: 0.5 / len(branch.members) for place in branch.members}
        for place, share in shares.items():
            weights[place] = share / len(branches)
        for place in branch.places:
            siblings = [member for member in branch.members if member != place]
            leak = NEGLIGIBLE if siblings and others else float(bool(others))
            for targets, share in ((siblings, 1 - leak), (others, leak)):
                if targets:
                    transfers[place, targets] = share / len(targets)
    return weights, transfers


def _pass_on(
    place: int, weights: NDArray[np.float64], transfers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The graph after one rejection: its weight moves along its edges, and edges through it are joined."""
    weights = weights + weights[place] * transfers[place]
    weights[place] = 0.0
    joined = transfers + np.outer(transfers[:, place], transfers[place])
    joined[place, :] = joined[:, place] = 0.0
    np.fill_diagonal(joined, 0.0)
    if transfers[place].any():
        # A row still passes on all it had: dividing by its sum, 1 - g_ij g_ji, avoids rounding errors.
        totals = joined.sum(axis=1, keepdims=True)
        joined = np.divide(joined, totals, out=np.zeros_like(joined), where=totals > 0)
    return weights, joined
