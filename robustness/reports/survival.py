"""survival.csv: how many queries an example withstands, under both arms, with censoring where the attack gave up."""

from __future__ import annotations

from typing import Any

import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Status
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import keeps_prediction
from robustness.reports.grid import split_cells
from robustness.runs.record import RunRecord
from robustness.stats import kaplan_meier, log_rank

Column = NDArray[Any]


def build_survival(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns survival.csv's rows: each pair, test set and attack that asks queries, over what each arm got right.

    `reference_median` and `candidate_median` are Kaplan-Meier medians of the queries to success, empty where more
    than half withstand; an attack that failed censors its example at what it spent.
    """
    attempted = examples.loc[
        (examples["attack"] != NO_ATTACK)
        & ~keeps_prediction(examples)
        & examples["status"].isin([Status.SUCCEEDED, Status.FAILED])
        & (examples["queries"].to_numpy(dtype=float, na_value=0.0) > 0),
        ["checkpoint", "testset", "attack", "queries", "status"],
    ]
    queries = attempted["queries"].to_numpy(dtype=float)
    broken = (attempted["status"] == Status.SUCCEEDED).to_numpy()
    cells: dict[str, dict[tuple[str, str], tuple[Column, Column, float]]] = {}
    for (checkpoint, testset, attack), part in split_cells(attempted, ("checkpoint", "testset", "attack")):
        arm = queries[part], broken[part]
        cells.setdefault(checkpoint, {})[testset, attack] = (*arm, kaplan_meier(*arm).median)
    rows: list[dict[str, object]] = []
    for pair in record.pairs:
        full, peft = (cells.get(name, {}) for name in (pair.reference, pair.candidate))
        for testset, attack in (cell for cell in full if cell in peft):
            one, other = full[testset, attack], peft[testset, attack]
            test = log_rank(*one[:2], *other[:2])
            names = {"pair": pair.name, "testset": testset, "attack": attack, "test": "log-rank"}
            numbers = {
                "reference_n": len(one[0]),
                "candidate_n": len(other[0]),
                "reference_median": one[2],
                "candidate_median": other[2],
                "statistic": test.statistic,
                "p_value": test.p_value,
            }
            rows.append({**names, **numbers})
    return arrange(Table.SURVIVAL, rows)
