"""predictions.csv: how well each probe tells which examples an attack breaks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Status
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import keeps_prediction
from robustness.stats import auc, rank_correlation

PROBE = ["checkpoint", "testset", "probe", "quantity"]


def build_predictions(probed: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Returns predictions.csv's rows: each probe's quantity on each checkpoint against each attack.

    Of the examples that were right before the attack: `auc`, the chance that one that broke has the larger value, and
    Spearman's correlation of value and queries spent. 0.5 predicts nothing; below, larger values withstand.

    Args:
        probed: sensitivity_examples.csv's rows.
        examples: examples.csv's rows.
    """
    if probed.empty:
        return arrange(Table.PREDICTIONS, [])
    attempted = examples[
        (examples["attack"] != NO_ATTACK)
        & ~keeps_prediction(examples)
        & examples["status"].isin([Status.SUCCEEDED, Status.FAILED])
    ][["checkpoint", "testset", "attack", "example_id", "status", "queries"]]
    measured = probed[np.isfinite(probed["value"].astype(float))]
    if "quantity" not in measured:
        measured = measured.assign(quantity=None)
    joined = measured.rename(columns={"status": "probe_status"}).merge(
        attempted, on=["checkpoint", "testset", "example_id"]
    )
    rows: list[dict[str, object]] = []
    for cell, part in joined.groupby([*PROBE, "attack"], sort=False, dropna=False):
        values = part["value"].to_numpy(dtype=float)
        found = auc(values, (part["status"] == Status.SUCCEEDED).to_numpy(dtype=bool))
        rows.append(
            dict(zip([*PROBE, "attack"], cell, strict=True))
            | {"n": len(part), "auc": found.auc, "low": found.interval.low, "high": found.interval.high}
            | {"rank_correlation": rank_correlation(values, part["queries"].to_numpy(dtype=float))}
        )
    return arrange(Table.PREDICTIONS, rows)
