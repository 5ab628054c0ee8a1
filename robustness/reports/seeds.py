"""Comparisons over all training seeds of a method: what is said about the method, not about two checkpoints."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.runs.record import PairRecord, RunRecord
from robustness.stats import bootstrap_over_seeds

TEST = "bootstrap-over-seeds"


def seed_rows(judged: pd.DataFrame, record: RunRecord) -> list[dict[str, object]]:
    """Returns a row for each method with several training seeds, test set and attack, over what all answered."""
    rows: list[dict[str, object]] = []
    for (task, base, method), pairs in _families(record).items():
        if len({pair.seed for pair in pairs}) < 2:
            continue
        names = {"pair": f"{task} {method}, {len(pairs)} seeds", "method": method, "task": task, "base": base}
        checkpoints = {name for pair in pairs for name in (pair.full, pair.peft)}
        mine = judged[judged["checkpoint"].isin(checkpoints)]
        for (testset, attack), part in mine.groupby(["testset", "attack"], sort=False):
            row = _row(part, pairs, record.seed)
            if row:
                metric = "accuracy" if attack == NO_ATTACK else "robust_accuracy"
                rows.append(names | {"testset": testset, "attack": attack, "metric": metric} | row)
    return rows


def _families(record: RunRecord) -> dict[tuple[str, str, str], list[PairRecord]]:
    families: dict[tuple[str, str, str], list[PairRecord]] = {}
    for pair in record.pairs:
        method = record.find_checkpoint(pair.peft).adaptation
        families.setdefault((pair.task, pair.base, method), []).append(pair)
    return families


def _row(part: pd.DataFrame, pairs: list[PairRecord], seed: int) -> dict[str, object]:
    table = part.pivot(index="example_id", columns="checkpoint", values="robust_right")
    arms = [name for pair in pairs for name in (pair.full, pair.peft)]
    if not set(arms) <= set(table.columns):
        return {}
    table = table[list(dict.fromkeys(arms))].dropna()
    if table.empty:
        return {}
    groups = part.drop_duplicates("example_id").set_index("example_id")["group_id"].reindex(table.index)
    full = np.stack([table[pair.full].to_numpy(dtype=float) for pair in pairs])
    peft = np.stack([table[pair.peft].to_numpy(dtype=float) for pair in pairs])
    found = bootstrap_over_seeds(full - peft, groups.to_numpy(), rng=np.random.default_rng(seed))
    return {
        "family": "seeds",
        "population": "all",
        "n": len(table),
        "n_seeds": len(pairs),
        "aggregation": "mean",
        "full_value": full.mean(),
        "peft_value": peft.mean(),
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "test": TEST,
        "p_value": found.p_value,
    }
