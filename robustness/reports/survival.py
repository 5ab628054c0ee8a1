"""survival.csv: how many queries an example withstands, under both arms, with censoring where the attack gave up."""

from __future__ import annotations

import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Status
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import keeps_prediction
from robustness.runs.record import RunRecord
from robustness.stats import kaplan_meier, log_rank


def build_survival(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns survival.csv's rows: each pair, test set and attack that asks queries, over what each arm got right.

    `full_median` and `peft_median` are Kaplan-Meier medians of the queries to success, empty where more than half
    withstand; an attack that failed censors its example at what it spent.
    """
    attempted = examples[
        (examples["attack"] != NO_ATTACK)
        & ~keeps_prediction(examples)
        & examples["status"].isin([Status.SUCCEEDED, Status.FAILED])
        & (examples["queries"].astype(float) > 0)
    ]
    rows: list[dict[str, object]] = []
    for pair in record.pairs:
        mine = attempted[attempted["checkpoint"].isin([pair.full, pair.peft])]
        for (testset, attack), part in mine.groupby(["testset", "attack"], sort=False):
            arms = [part[part["checkpoint"] == name] for name in (pair.full, pair.peft)]
            if any(arm.empty for arm in arms):
                continue
            spent = [arm["queries"].to_numpy(dtype=float) for arm in arms]
            broken = [(arm["status"] == Status.SUCCEEDED).to_numpy(dtype=bool) for arm in arms]
            medians = [kaplan_meier(*arm).median for arm in zip(spent, broken, strict=True)]
            test = log_rank(spent[0], broken[0], spent[1], broken[1])
            rows.append(
                {"pair": pair.name, "testset": testset, "attack": attack}
                | {"full_n": len(spent[0]), "peft_n": len(spent[1])}
                | {"full_median": medians[0], "peft_median": medians[1]}
                | {"statistic": test.statistic, "test": "log-rank", "p_value": test.p_value}
            )
    return arrange(Table.SURVIVAL, rows)
