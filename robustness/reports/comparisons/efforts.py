"""What it takes to break an example on either arm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robustness.engine.named_attack import Effort
from robustness.engine.outcome import Status
from robustness.reports.comparisons.comparison import Comparison, Family, has_repeats
from robustness.reports.comparisons.grid import STATUS_CODES, OutcomeGrid, RowIndex
from robustness.reports.tables.examples import RIGHT
from robustness.stats import effort_p_value, less_effort, mean_difference, rarer_share, signed_effort_ranks

Column = NDArray[np.float64]
TEST = "signed-rank"


def efforts_of(grid: OutcomeGrid, rows: RowIndex, effort: Effort) -> Column:
    """Returns what broke each example, infinite where the attack gave up, shape (rows,).

    An attack whose search or budget is exhausted never breaks the example. That is more than any effort, not an
    observation cut short. nan where a success has no effort.
    """
    broken = grid.statuses[rows] == STATUS_CODES[Status.SUCCEEDED]
    return np.where(broken, grid.numbers(effort)[rows], np.inf)


def compare_efforts(
    grid: OutcomeGrid,
    arms: tuple[RowIndex, RowIndex],
    effort: Effort,
    labels: Mapping[str, object],
    *,
    n_left_out: int,
    seed: int,
) -> Comparison | None:
    """Returns the comparison of efforts on the examples that both arms have right; None where nothing broke.

    The values are the chances that one arm breaks with less effort than the other; a tie counts half for each. Their
    difference, candidate minus reference, is above 0 where the candidate takes less effort.

    Args:
        grid: All outcomes.
        arms: Rows of the same examples on the reference and on the candidate.
        effort: What counts as effort.
        labels: Of the row.
        n_left_out: Examples without an outcome on both arms.
        seed: Of draws, where signs of ranks are drawn.
    """
    both = (grid.clean[arms[0]] == RIGHT) & (grid.clean[arms[1]] == RIGHT)
    reference, candidate = (efforts_of(grid, rows[both], effort) for rows in arms)
    told = ~(np.isnan(reference) | np.isnan(candidate))
    reference, candidate, groups = reference[told], candidate[told], grid.groups[arms[0][both]][told]
    if not len(reference) or np.isinf([reference, candidate]).all():
        return None
    names = groups if has_repeats(groups) else None
    signs, ranks = less_effort(reference, candidate), signed_effort_ranks(reference, candidate)
    difference = float(signs.mean())
    return Comparison(
        labels=labels,
        metric="effort",
        population="both_correct",
        family=Family.EFFORT,
        n=len(signs),
        reference_value=(1 - difference) / 2,
        candidate_value=(1 + difference) / 2,
        estimate=mean_difference(signs, names),
        test=TEST,
        p_value=effort_p_value(ranks, names, rng=np.random.default_rng(seed)),
        rarer_share=rarer_share(signs),
        n_left_out=n_left_out + int((~told).sum()),
    )
