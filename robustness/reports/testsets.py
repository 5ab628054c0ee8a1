"""testsets.csv: how each checkpoint does on each test set as it stands."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import add_judgements
from robustness.runs.record import RunRecord
from robustness.stats import (
    AdvGlueScores,
    Interval,
    advglue_macro,
    binary_f1,
    bootstrap_f1_interval,
    paired_difference_interval,
    wilson_interval,
)

CELL = ["checkpoint", "adaptation", "task", "testset", "provenance"]
UNKNOWN = Interval(float("nan"), float("nan"))
MACRO_PARTS = {
    "sst2": ("advglue-sst2", "accuracy"),
    "qqp_accuracy": ("advglue-qqp", "accuracy"),
    "qqp_f1": ("advglue-qqp", "f1"),
    "mnli": ("advglue-mnli", "accuracy"),
    "mnli_mm": ("advglue-mnli-mm", "accuracy"),
    "qnli": ("advglue-qnli", "accuracy"),
    "rte": ("advglue-rte", "accuracy"),
}


def build_testsets(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns testsets.csv's rows.

    Metrics: `accuracy` of all rows and `f1` where the task has it; where benign originals are known, on just
    those rows, `benign_accuracy`, `accuracy_with_benign` and `accuracy_drop` (the first minus the second). The
    official AdvGLUE macro score follows for every arm that was evaluated on all six sets.
    """
    static = add_judgements(examples[examples["attack"] == NO_ATTACK])
    rows: list[dict[str, object]] = []
    for cell, part in static.groupby(CELL, sort=False):
        names = dict(zip(CELL, cell, strict=True))
        testset = record.find_testset(str(names["testset"]))
        rows += [names | row for row in _metric_rows(part, seed=record.seed, with_f1=testset.scores_f1)]
    return arrange(Table.TESTSETS, [*rows, *_macro_rows(rows, record)])


def _metric_rows(part: pd.DataFrame, *, seed: int, with_f1: bool) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    judged = part[part["robust_right"].notna()]
    errored = len(part) - len(judged)
    right = judged["robust_right"].to_numpy(dtype=bool)
    rows = [_row("accuracy", len(right), errored, _mean(right), wilson_interval(int(right.sum()), len(right)))]
    if with_f1:
        labels = judged["label"].to_numpy(dtype=int)
        predictions = judged["adversarial_prediction"].to_numpy(dtype=int)
        interval = bootstrap_f1_interval(labels, predictions, rng=rng)
        rows.append(_row("f1", len(right), errored, binary_f1(labels, predictions), interval))
    paired = judged[judged["clean_right"].notna()]
    if len(paired):
        clean = paired["clean_right"].to_numpy(dtype=bool)
        adversarial = paired["robust_right"].to_numpy(dtype=bool)
        drop = clean.astype(float) - adversarial
        n = len(paired)
        rows += [
            _row("benign_accuracy", n, errored, _mean(clean), wilson_interval(int(clean.sum()), n)),
            _row("accuracy_with_benign", n, errored, _mean(adversarial), wilson_interval(int(adversarial.sum()), n)),
            _row("accuracy_drop", n, errored, float(drop.mean()), paired_difference_interval(drop, rng=rng)),
        ]
    return rows


def _row(metric: str, n: int, n_errored: int, value: float, interval: Interval) -> dict[str, object]:
    return {
        "metric": metric,
        "aggregation": "mean",
        "n": n,
        "n_errored": n_errored,
        "value": value,
        "low": interval.low,
        "high": interval.high,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _macro_rows(rows: list[dict[str, object]], record: RunRecord) -> list[dict[str, object]]:
    """An arm is what shares base, adaptation and training seed; its checkpoints differ by task."""
    arms: dict[tuple[str, str, int | None], dict[tuple[str, str], float]] = {}
    for row in rows:
        checkpoint = record.find_checkpoint(str(row["checkpoint"]))
        arm = (checkpoint.base, checkpoint.adaptation, checkpoint.train_seed)
        arms.setdefault(arm, {})[str(row["testset"]), str(row["metric"])] = float(str(row["value"]))
    found = []
    for (base, adaptation, seed), values in arms.items():
        if set(MACRO_PARTS.values()) <= set(values):
            scores = AdvGlueScores(**{name: values[part] for name, part in MACRO_PARTS.items()})
            names = {
                "checkpoint": f"{base} {adaptation}" + ("" if seed is None else f" seed {seed}"),
                "adaptation": adaptation,
                "testset": "advglue",
                "provenance": "official",
            }
            n = sum(record.find_testset(testset).n_used for testset, metric in values if metric == "accuracy")
            found.append(names | _row("macro", n, 0, advglue_macro(scores), UNKNOWN) | {"aggregation": "macro"})
    return found
