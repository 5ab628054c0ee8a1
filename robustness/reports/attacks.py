"""attacks.csv: what each attack did to each checkpoint, and the worst case over all attacks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.goal import GoalKind
from robustness.engine.outcome import Status
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import keeps_prediction
from robustness.reports.grid import STATUS_RANKS, split_cells
from robustness.runs.record import CheckpointRecord, RunRecord
from robustness.stats import AttackCounts, wilson_interval

WORST_CASE = "worst-case"
NUMBERS = ("queries", "forwards", "modified_share", "similarity", "seconds")
CELL = ["checkpoint", "adaptation", "task", "testset"]


def build_attacks(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns attacks.csv's rows: each attack on each checkpoint and test set, then its worst case.

    An attack that keeps the prediction leaves every right answer right: it has a success rate, but no robust accuracy
    and no part in the worst case.
    """
    attacked = examples.loc[
        examples["attack"] != NO_ATTACK, [*CELL, "attack", "example_id", *NUMBERS, "status", "goal"]
    ]
    counted = pd.concat([attacked, worst_cases(attacked[~keeps_prediction(attacked)])], ignore_index=True)
    columns = {name: counted[name].to_numpy(dtype=float, na_value=np.nan) for name in NUMBERS}
    statuses, goals = counted["status"].to_numpy(), counted["goal"].to_numpy()
    order = {cell: number for number, (cell, _) in enumerate(split_cells(attacked, CELL))}
    arms = {checkpoint.name: checkpoint for checkpoint in record.checkpoints}
    rows = [
        dict(zip([*CELL, "attack"], cell, strict=True))
        | _name(arms[cell[0]])
        | _row({name: column[part] for name, column in columns.items()}, statuses[part], goals[part[0]])
        for cell, part in split_cells(counted, [*CELL, "attack"])
    ]
    return arrange(Table.ATTACKS, sorted(rows, key=lambda row: order[tuple(str(row[name]) for name in CELL)]))


def _name(arm: CheckpointRecord) -> dict[str, object]:
    return {
        "method": arm.adaptation,
        "train_seed": arm.train_seed,
        "trainable_parameters": arm.trainable_parameters,
    }


def worst_cases(attacked: pd.DataFrame) -> pd.DataFrame:
    """One row per example over all attacks of each checkpoint and test set that has several.

    Succeeded if any attack succeeded; otherwise errored if any errored; queries, forwards and seconds add up.
    """
    several = [part for _, part in split_cells(attacked, CELL) if attacked["attack"].iloc[part].nunique() > 1]
    if not several:
        return attacked.iloc[:0]
    mine = attacked.iloc[np.concatenate(several)]
    example = mine.groupby([*CELL, "example_id"], sort=False).ngroup().to_numpy()
    rank = mine["status"].map({status.value: rank for status, rank in STATUS_RANKS.items()}).to_numpy()
    worst = np.lexsort((rank, example))[np.cumsum(np.bincount(example)) - 1]
    sums = {
        name: np.bincount(example, weights=mine[name].to_numpy(dtype=float, na_value=0.0))
        for name in ("queries", "forwards", "seconds")
    }
    blank = {"attack": WORST_CASE, "modified_share": float("nan"), "similarity": float("nan")}
    return mine.iloc[worst].assign(**sums, **blank)


def _row(columns: dict[str, NDArray[np.float64]], statuses: NDArray[Any], goal: object) -> dict[str, object]:
    counts = AttackCounts.of(statuses)
    broken = statuses == Status.SUCCEEDED
    attempted = broken | (statuses == Status.FAILED)
    robust = wilson_interval(counts.failed, counts.n_judged)
    robust_accuracy = {
        "robust_accuracy": counts.robust_accuracy,
        "robust_accuracy_low": robust.low,
        "robust_accuracy_high": robust.high,
    }
    success = wilson_interval(counts.succeeded, counts.succeeded + counts.failed)
    return {
        "n": counts.n,
        "n_skipped": counts.skipped,
        "n_errored": counts.errored,
        "clean_accuracy": counts.clean_accuracy,
        **({} if goal == GoalKind.KEEP_PREDICTION else robust_accuracy),
        "attack_success_rate": counts.attack_success_rate,
        "attack_success_rate_low": success.low,
        "attack_success_rate_high": success.high,
        "mean_queries": _mean(columns["queries"][attempted]),
        "mean_forwards": _mean(columns["forwards"][attempted]),
        "mean_modified_share": _mean(columns["modified_share"][broken]),
        "mean_similarity": _mean(columns["similarity"][broken]),
        "seconds": np.nansum(columns["seconds"]),
        "goal": goal,
    }


def _mean(values: NDArray[np.float64]) -> float:
    """Of what is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
