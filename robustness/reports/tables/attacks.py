"""attacks.csv: what each attack did to each checkpoint, and the worst case over all attacks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.comparisons.controls import planned_attacks
from robustness.reports.comparisons.grid import OutcomeGrid, build_grid, worst_case
from robustness.reports.tables.columns import Table, arrange
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import CheckpointRecord, RunRecord
from robustness.stats import AttackCounts, wilson_interval
from robustness.tasks.objective import ObjectiveKind

NUMBERS = (
    *("queries", "forwards", "modified_share", "similarity", "seconds"),
    *("clean_quality", "quality", "decodes", "generated_tokens", "cut"),
)


def build_attacks(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns attacks.csv's rows: each attack on each checkpoint and test set, then its worst case.

    An attack that keeps the prediction leaves every right answer right. So it has a success rate, but no robust
    accuracy and no part in the worst case. The worst case is over the attacks and examples that the checkpoint and
    all its partners have; `n_left_out` counts the other examples.
    """
    grid = build_grid(examples, record)
    numbers = {name: grid.numbers(name) for name in NUMBERS}
    statuses, goals = examples["status"].to_numpy(), examples["goal"].to_numpy()
    rows: list[dict[str, object]] = []
    for arm in record.checkpoints:
        cells = grid.cells.get(arm.name, {})
        for testset in dict.fromkeys(name for name, _ in cells):
            names = _name(arm) | {"task": arm.task, "testset": testset}
            for attack, places in grid.on(arm.name, testset).items():
                part = places[places >= 0]
                if attack != NO_ATTACK and len(part):
                    columns = {name: column[part] for name, column in numbers.items()}
                    rows.append(names | {"attack": attack} | _row(columns, statuses[part], goals[part[0]]))
            rows += [names | row for row in _worst_row(grid, arm, testset, record, statuses)]
    return arrange(Table.ATTACKS, rows)


def _worst_row(
    grid: OutcomeGrid, arm: CheckpointRecord, testset: str, record: RunRecord, statuses: NDArray[Any]
) -> Iterator[dict[str, object]]:
    """Over the attacks that are no controls, where there are several; queries, forwards and seconds add up."""
    partners = dict.fromkeys(
        name
        for pair in record.pairs
        for name in (pair.reference, pair.candidate)
        if arm.name in (pair.reference, pair.candidate)
    )
    arms = list(dict.fromkeys([arm.name, *partners]))
    worst = worst_case(grid, arms, testset, planned_attacks(grid, record))
    if len(worst.attacks) < 2:
        return
    kept = worst.rows[arm.name] >= 0
    rows = worst.rows[arm.name][kept]
    table = np.stack([grid.on(arm.name, testset)[attack][kept] for attack in worst.attacks])
    blank = np.full(len(rows), np.nan)
    columns = {
        name: np.nansum(np.where(table >= 0, grid.numbers(name)[table], 0.0), axis=0)
        for name in ("queries", "forwards", "seconds")
    }
    columns = dict.fromkeys(NUMBERS, blank) | columns
    goal = ObjectiveKind.CHANGE_PREDICTION
    yield {"attack": WORST_CASE} | _row(columns, statuses[rows], goal) | {"n_left_out": worst.n_left_out}


def _name(arm: CheckpointRecord) -> dict[str, object]:
    return {
        "checkpoint": arm.name,
        "adaptation": arm.adaptation,
        "method": arm.method,
        "train_seed": arm.train_seed,
        "trainable_parameters": arm.trainable_parameters,
        "trainable_share": arm.trainable_share,
        "base_precision": arm.base_precision,
        "train_seconds": arm.train_seconds,
    }


def _row(columns: dict[str, NDArray[np.float64]], statuses: NDArray[Any], goal: object) -> dict[str, object]:
    counts = AttackCounts.of(statuses)
    broken = statuses == Status.SUCCEEDED
    attempted = broken | (statuses == Status.FAILED)
    judged = attempted | (statuses == Status.SKIPPED)
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
        **({} if goal == ObjectiveKind.KEEP_PREDICTION else robust_accuracy),
        "attack_success_rate": counts.attack_success_rate,
        "attack_success_rate_low": success.low,
        "attack_success_rate_high": success.high,
        "mean_queries": _mean(columns["queries"][attempted]),
        "mean_forwards": _mean(columns["forwards"][attempted]),
        "mean_modified_share": _mean(columns["modified_share"][broken]),
        "mean_similarity": _mean(columns["similarity"][broken]),
        "seconds": np.nansum(columns["seconds"]),
        "goal": goal,
        "clean_quality": _mean(columns["clean_quality"][judged]),
        # What was not attacked is as good as before.
        "quality": _mean(np.where(attempted, columns["quality"], columns["clean_quality"])[judged]),
        "decodes": _sum(columns["decodes"]),
        "generated_tokens": _sum(columns["generated_tokens"]),
        "n_cut": _sum(columns["cut"]),
    }


def _sum(values: NDArray[np.float64]) -> float:
    """Of what is known; nan where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else math.nan


def _mean(values: NDArray[np.float64]) -> float:
    """Of what is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
