"""testsets.csv: how each checkpoint does on each test set as it stands."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.columns import Table, arrange
from robustness.reports.examples import add_judgements
from robustness.reports.questions import answer_rows
from robustness.runs.record import RunRecord
from robustness.stats import (
    AdvGlueScores,
    Interval,
    accuracy,
    advglue_macro,
    binary_f1,
    bootstrap_f1_interval,
    mean_difference,
    percentile_interval,
    resample_accuracy_and_f1,
    resample_means,
    wilson_interval,
)

CELL = ["checkpoint", "adaptation", "task", "testset", "provenance"]
MACRO_SETS = ("advglue-sst2", "advglue-qqp", "advglue-mnli", "advglue-mnli-mm", "advglue-qnli", "advglue-rte")


def build_testsets(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns testsets.csv's rows.

    Metrics: `accuracy` of all rows and `f1` where the task has it; where benign originals are known, on just
    those rows, `benign_accuracy`, `accuracy_with_benign` and `accuracy_drop` (the first minus the second). The
    official AdvGLUE macro score follows for every arm that was evaluated on all six sets. Questions have exact match
    and F1 instead.
    """
    static = add_judgements(examples[examples["attack"] == NO_ATTACK])
    rows: list[dict[str, object]] = []
    for cell, part in static.groupby(CELL, sort=False):
        names = dict(zip(CELL, cell, strict=True))
        testset = record.find_testset(str(names["testset"]))
        if testset.answers:
            rows += [names | row for row in answer_rows(part, record.seed)]
            continue
        rows += [names | row for row in _metric_rows(part, seed=record.seed, with_f1=testset.scores_f1)]
    return arrange(Table.TESTSETS, [*rows, *_macro_rows(static, record)])


def _metric_rows(part: pd.DataFrame, *, seed: int, with_f1: bool) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    judged = part[part["robust_right"].notna()]
    errored = len(part) - len(judged)
    right = judged["robust_right"].to_numpy(dtype=bool)
    rows = [_row("accuracy", len(right), errored, accuracy(right), wilson_interval(int(right.sum()), len(right)))]
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
            _row("benign_accuracy", n, errored, accuracy(clean), wilson_interval(int(clean.sum()), n)),
            _row(
                "accuracy_with_benign", n, errored, accuracy(adversarial), wilson_interval(int(adversarial.sum()), n)
            ),
            _row("accuracy_drop", n, errored, float(drop.mean()), mean_difference(drop).interval()),
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


def _macro_rows(static: pd.DataFrame, record: RunRecord) -> list[dict[str, object]]:
    """An arm is what shares base, adaptation and training seed; its checkpoints differ by task."""
    arms: dict[tuple[str, str, int | None], list[str]] = {}
    for checkpoint in record.checkpoints:
        arm = (checkpoint.base, checkpoint.adaptation, checkpoint.train_seed)
        arms.setdefault(arm, []).append(checkpoint.name)
    judged = static[static["robust_right"].notna() & static["testset"].isin(MACRO_SETS)]
    rows = []
    for (base, adaptation, seed), names in arms.items():
        part = judged[judged["checkpoint"].isin(names)]
        if part["testset"].nunique() == len(MACRO_SETS):
            value, interval = _macro(part, record.seed)
            labels = {
                "checkpoint": f"{base} {adaptation}" + ("" if seed is None else f" seed {seed}"),
                "adaptation": adaptation,
                "testset": "advglue",
                "provenance": "official",
            }
            rows.append(labels | _row("macro", len(part), 0, value, interval) | {"aggregation": "macro"})
    return rows


def _macro(judged: pd.DataFrame, seed: int) -> tuple[float, Interval]:
    """The macro score and its percentile bootstrap interval, each set resampled on its own."""
    rng = np.random.default_rng(seed)
    right = {str(name): part["robust_right"].to_numpy(dtype=bool) for name, part in judged.groupby("testset")}
    qqp = judged[judged["testset"] == "advglue-qqp"]
    labels, predictions = (qqp[name].to_numpy(dtype=int) for name in ("label", "adversarial_prediction"))
    qqp_accuracies, qqp_f1s = resample_accuracy_and_f1(labels, predictions, rng=rng)
    value = advglue_macro(
        AdvGlueScores(
            sst2=accuracy(right["advglue-sst2"]),
            qqp_accuracy=accuracy(right["advglue-qqp"]),
            qqp_f1=binary_f1(labels, predictions),
            mnli=accuracy(right["advglue-mnli"]),
            mnli_mm=accuracy(right["advglue-mnli-mm"]),
            qnli=accuracy(right["advglue-qnli"]),
            rte=accuracy(right["advglue-rte"]),
        )
    )
    samples = advglue_macro(
        AdvGlueScores(
            sst2=resample_means(right["advglue-sst2"], rng=rng),
            qqp_accuracy=qqp_accuracies,
            qqp_f1=qqp_f1s,
            mnli=resample_means(right["advglue-mnli"], rng=rng),
            mnli_mm=resample_means(right["advglue-mnli-mm"], rng=rng),
            qnli=resample_means(right["advglue-qnli"], rng=rng),
            rte=resample_means(right["advglue-rte"], rng=rng),
        )
    )
    return value, percentile_interval(samples)
