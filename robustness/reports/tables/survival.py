"""survival.csv: how many queries it takes to break an example, under both arms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import norm

from robustness.engine.named_attack import Effort
from robustness.engine.outcome import Status
from robustness.reports.comparisons.efforts import TEST, compare_efforts, efforts_of
from robustness.reports.comparisons.grid import STATUS_CODES, OutcomeGrid, RowIndex, build_grid
from robustness.reports.tables.columns import Table, arrange
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import median_effort

ATTEMPTED = [STATUS_CODES[status] for status in (Status.SUCCEEDED, Status.FAILED)]


def build_survival(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns survival.csv's rows: each pair, test set and attack that asks queries.

    `reference_median` and `candidate_median` are the queries at which half of the arm's right answers are broken.
    They are empty where fewer than half ever break: an attack that gave up never breaks its example. The test is the
    signed-rank test on the `n` examples that both arms got right. `statistic` is its normal score, above 0 where the
    candidate breaks with fewer queries.
    """
    grid = build_grid(examples)
    rows = [row for pair in record.pairs for row in _of_pair(grid, pair, record)]
    return arrange(Table.SURVIVAL, rows)


def _of_pair(grid: OutcomeGrid, pair: PairRecord, record: RunRecord) -> Iterator[dict[str, object]]:
    queries = grid.numbers(Effort.QUERIES)
    partner = grid.cells.get(pair.candidate, {})
    for (testset, attack), places in grid.cells.get(pair.reference, {}).items():
        if attack == NO_ATTACK or attack in grid.keeping or (testset, attack) not in partner:
            continue
        arms = [_attempted(grid, each) for each in (places, partner[testset, attack])]
        if not all(len(arm) and (queries[arm] > 0).any() for arm in arms):
            continue
        rows = grid.match(places, partner[testset, attack])
        compared = compare_efforts(grid, rows, Effort.QUERIES, {}, n_left_out=0, seed=record.seed)
        medians = [median_effort(efforts_of(grid, arm, Effort.QUERIES)) for arm in arms]
        row: dict[str, object] = {"pair": pair.name, "testset": testset, "attack": attack, "test": TEST}
        row |= {"reference_n": len(arms[0]), "candidate_n": len(arms[1])}
        row |= {"reference_median": medians[0], "candidate_median": medians[1]}
        if compared is not None:
            score = float(norm.isf(compared.p_value / 2)) * float(np.sign(compared.estimate.difference))
            row |= {"statistic": score, "p_value": compared.p_value, "n": compared.n}
        yield row


def _attempted(grid: OutcomeGrid, places: RowIndex) -> RowIndex:
    rows = places[places >= 0]
    return np.asarray(rows[np.isin(grid.statuses[rows], ATTEMPTED)])
