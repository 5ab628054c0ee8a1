"""predictions.csv: how well each number of a probe tells which examples an attack breaks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.engine.named_attack import Effort
from robustness.engine.outcome import Status
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord
from robustness.stats import auc, rank_correlation

NUMBER = ["checkpoint", "testset", "probe", "quantity", "kind", "norm", "radius", "sigma", "scope"]
"""What tells the numbers of an example apart; those of several norms, radii or scopes share no scale."""
PER_LENGTH = ("-per-token-norm", "-per-neighbour")
"""Numbers that are another times a length of the checkpoint: they order its examples as that one does."""
MIN_SIDE = 5
"""Examples that broke, and that withstood, below which an AUC says nothing."""


def build_predictions(probed: pd.DataFrame, examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns predictions.csv's rows: each number of each probe on each checkpoint against each attack.

    Covers the examples that were right before the attack. `auc` is the chance that a broken example has the larger
    value. A further column has Spearman's correlation of value and `effort` to break. 0.5 predicts nothing; below,
    larger values withstand. The AUC is empty unless at least five broke and five withstood. Effort is what the attack
    spends: queries, words or a distance; an example that withstood takes more than any that broke. Each norm of a
    number has a row. Values whose status is not ok (voided, say) are left out and counted.

    Args:
        probed: sensitivity_examples.csv's rows.
        examples: examples.csv's rows.
        record: The run's: what each attack spends.
    """
    if probed.empty:
        return arrange(Table.PREDICTIONS, [])
    attempted = examples[
        (examples["attack"] != NO_ATTACK)
        & ~keeps_prediction(examples)
        & examples["status"].isin([Status.SUCCEEDED, Status.FAILED])
    ][["checkpoint", "testset", "attack", "example_id", "status", *Effort]]
    spent = {attack.name: attack.effort for attack in record.attacks}
    probed = probed[~probed["quantity"].str.endswith(PER_LENGTH)]
    numbered = probed.assign(number=probed.groupby(NUMBER, sort=False, dropna=False).ngroup())
    names = numbered.drop_duplicates("number").set_index("number")[NUMBER]
    numbered = numbered[numbered["value"].notna()]
    measured = numbered[["number", "checkpoint", "testset", "example_id", "value"]].assign(
        is_ok=(numbered["status"] == "ok") & np.isfinite(numbered["value"].astype(float))
    )
    joined = measured.merge(attempted, on=["checkpoint", "testset", "example_id"])
    rows = [
        names.loc[number].to_dict() | {"attack": attack} | _predict(part, spent.get(str(attack), Effort.QUERIES))
        for (number, attack), part in joined.groupby(["number", "attack"], sort=False)
    ]
    return arrange(Table.PREDICTIONS, rows)


def _predict(part: pd.DataFrame, effort: Effort) -> dict[str, object]:
    read = part[part["is_ok"]]
    values = read["value"].to_numpy(dtype=float)
    broken = (read["status"] == Status.SUCCEEDED).to_numpy(dtype=bool)
    n, n_broken = len(read), int(broken.sum())
    row: dict[str, object] = {"n": n, "n_broken": n_broken, "n_left_out": len(part) - n, "effort": str(effort)}
    efforts = np.where(broken, read[effort].to_numpy(dtype=float), np.inf)
    known = ~np.isnan(efforts)
    row["rank_correlation"] = rank_correlation(values[known], efforts[known])
    if min(n_broken, n - n_broken) >= MIN_SIDE:
        found = auc(values, broken)
        row |= {"auc": found.auc, "low": found.interval.low, "high": found.interval.high}
    return row
