"""What an interrupted run has not made yet."""

from __future__ import annotations

import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.runs.record import RunRecord

COLUMNS = ["checkpoint", "testset", "attack", "n", "n_expected"]


def find_missing(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns the cells with fewer outcomes than examples: checkpoint, testset, attack, n, n_expected."""
    counts = examples.groupby(["checkpoint", "testset", "attack"]).size().to_dict()
    rows = []
    for checkpoint in record.checkpoints:
        for testset in record.testsets:
            if testset.task == checkpoint.task:
                for attack in (NO_ATTACK, *(attack.name for attack in record.attacks)):
                    n = counts.get((checkpoint.name, testset.name, attack), 0)
                    if n < testset.n_used:
                        rows.append((checkpoint.name, testset.name, attack, n, testset.n_used))
    return pd.DataFrame(rows, columns=COLUMNS)
