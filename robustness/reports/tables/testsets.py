"""testsets.csv: how each checkpoint does on each test set as it stands."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.comparisons.originals import implausible_originals
from robustness.reports.comparisons.qa_tables import answer_rows
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.examples import add_judgements
from robustness.reports.tables.generated_texts import generated_numbers
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord, TestsetRecord
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

CELL = ["checkpoint", "adaptation", "task", "testset", "provenance", "base_precision"]
MACRO_SETS = ("advglue-sst2", "advglue-qqp", "advglue-mnli", "advglue-mnli-mm", "advglue-qnli", "advglue-rte")


def build_testsets(examples: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns testsets.csv's rows.

    Metrics: `accuracy` of all rows and `f1` where the task has it. On only the rows with known benign originals:
    `benign_accuracy`, `accuracy_with_benign` and `accuracy_drop` (the first minus the second), unless the labels of
    the originals are implausible. Questions have exact match and F1 instead, and free text has what
    `generated_numbers` yields beside them. `consistency` is the share of groups of which all rows are right (arXiv
    2004.02709). The official AdvGLUE macro score follows for every arm that was evaluated on all six sets.
    """
    static = add_judgements(examples[examples["attack"] == NO_ATTACK])
    implausible = implausible_originals(static, record)
    rows: list[dict[str, object]] = []
    for cell, part in static.groupby(CELL, sort=False):
        names = dict(zip(CELL, cell, strict=True))
        testset = record.find_testset(str(names["testset"]))
        if testset.answers:
            found = answer_rows(part, record.seed)
        else:
            found = _metric_rows(part, record.seed, testset)
            found += _generated_rows(part, record, str(names["task"]))
            if testset.name not in implausible:
                found += _benign_rows(part)
        rows += [names | row for row in [*found, *_consistency_rows(part)]]
    return arrange(Table.TESTSETS, [*rows, *_macro_rows(static, record)])


def _metric_rows(part: pd.DataFrame, seed: int, testset: TestsetRecord) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    judged = part[part["robust_right"].notna()]
    errored = len(part) - len(judged)
    right = judged["robust_right"].to_numpy(dtype=bool)
    rows = [_row("accuracy", len(right), errored, accuracy(right), wilson_interval(int(right.sum()), len(right)))]
    if testset.scores_f1:
        labels, predictions = _binary(judged, testset)
        interval = bootstrap_f1_interval(labels, predictions, rng=rng)
        rows.append(_row("f1", len(right), errored, binary_f1(labels, predictions), interval))
    return rows


def _generated_rows(part: pd.DataFrame, record: RunRecord, task: str) -> list[dict[str, object]]:
    described = next((each for each in record.tasks if each.name == task and each.answer is not None), None)
    if described is None:
        return []
    judged = part[part["robust_right"].notna()]
    errored = len(part) - len(judged)
    return [
        _row(metric, n, errored, value, interval) | {"aggregation": aggregation}
        for metric, aggregation, n, value, interval in generated_numbers(judged, described, record.seed)
    ]


def _binary(judged: pd.DataFrame, testset: TestsetRecord) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where gold, and where the response, is the task's second label, of which F1 is: 1 or 0, shape (rows,)."""
    positive = testset.labels[1]
    return (judged["gold"] == positive).to_numpy(dtype=int), (judged["response"] == positive).to_numpy(dtype=int)


def _benign_rows(part: pd.DataFrame) -> list[dict[str, object]]:
    errored = int(part["robust_right"].isna().sum())
    paired = part[part["robust_right"].notna() & part["clean_right"].notna()]
    n = len(paired)
    if not n:
        return []
    clean, adversarial = (paired[name].to_numpy(dtype=bool) for name in ("clean_right", "robust_right"))
    drop = clean.astype(float) - adversarial
    interval = mean_difference(drop, paired["group_id"].to_numpy(dtype=str)).interval()
    return [
        _row("benign_accuracy", n, errored, accuracy(clean), wilson_interval(int(clean.sum()), n)),
        _row("accuracy_with_benign", n, errored, accuracy(adversarial), wilson_interval(int(adversarial.sum()), n)),
        _row("accuracy_drop", n, errored, float(drop.mean()), interval),
    ]


def _consistency_rows(part: pd.DataFrame) -> list[dict[str, object]]:
    """One row where some group has several; a group with an errored row is unknown and counted as errored."""
    groups = part["group_id"].to_numpy(dtype=object)
    if not part["group_id"].duplicated().any():
        return []
    known = part["robust_right"].notna().groupby(groups).all()
    consistent = part["robust_right"].fillna(value=False).groupby(groups).all()[known]
    n, whole = len(consistent), int(consistent.sum())
    if not n:
        return []
    row = _row("consistency", n, len(known) - n, whole / n, wilson_interval(whole, n))
    return [row | {"aggregation": "all-of-group"}]


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
    """An arm is what shares base with its precision, method and training seed; its checkpoints differ by task."""
    arms: dict[tuple[str, str, str, str, int | None], list[str]] = {}
    for checkpoint in record.checkpoints:
        arm = (
            checkpoint.base,
            checkpoint.base_precision,
            checkpoint.adaptation,
            checkpoint.method,
            checkpoint.train_seed,
        )
        arms.setdefault(arm, []).append(checkpoint.name)
    asked = static[static["testset"].isin(MACRO_SETS)]
    rows = []
    for (base, base_precision, adaptation, method, seed), names in arms.items():
        mine = asked[asked["checkpoint"].isin(names)]
        part = mine[mine["robust_right"].notna()]
        if part["testset"].nunique() == len(MACRO_SETS):
            value, interval = _macro(part, record)
            labels = {
                "checkpoint": f"{base} {method}" + ("" if seed is None else f" seed {seed}"),
                "adaptation": adaptation,
                "base_precision": base_precision,
                "testset": "advglue",
                "provenance": ", ".join(sorted(set(part["provenance"].astype(str)))),
            }
            rows.append(
                labels | _row("macro", len(part), len(mine) - len(part), value, interval) | {"aggregation": "macro"}
            )
    return rows


def _macro(judged: pd.DataFrame, record: RunRecord) -> tuple[float, Interval]:
    """The macro score and its percentile bootstrap interval, each set resampled on its own."""
    rng = np.random.default_rng(record.seed)
    right = {str(name): part["robust_right"].to_numpy(dtype=bool) for name, part in judged.groupby("testset")}
    qqp = judged[judged["testset"] == "advglue-qqp"]
    labels, predictions = _binary(qqp, record.find_testset("advglue-qqp"))
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
