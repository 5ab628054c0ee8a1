"""Rows of testsets.csv for tasks that are answered with free text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from robustness.reports.tables.parses import RULES
from robustness.stats import Interval, wilson_interval
from robustness.stats.intervals import bootstrap_mean_interval
from robustness.tasks.task import Task

Number = tuple[str, str, int, float, Interval]
"""Metric, aggregation, n, value and interval."""


def generated_numbers(part: pd.DataFrame, task: Task, seed: int) -> Iterator[Number]:
    """Yields what is known of one checkpoint on one set beside its accuracy; errored rows are left out.

    The quality by the task's metric, if it is more than right or wrong. Accuracy by each rule of reading numbers.
    `cut_share`, the share of responses cut at the token limit. Accuracy on the rows of each construction, such as
    `answerable`, and of each method by which rows were made.

    Args:
        part: judged rows, with `robust_right`.
        task: Of the set.
        seed: Of the draws of intervals.
    """
    assert task.answer is not None, "a task of text has an answer"
    right = part["robust_right"].to_numpy(dtype=bool)
    quality = part["quality"].to_numpy(dtype=float)
    if len(part) and not np.isin(quality, (0.0, 1.0)).all():
        groups = part["group_id"].to_numpy(dtype=object)
        interval = bootstrap_mean_interval(quality, groups, rng=np.random.default_rng(seed))
        yield metric_name(task), "mean", len(part), float(quality.mean()), interval
    for rule in RULES:
        known = part[f"correct_{rule.value}"]
        if known.notna().any():
            yield _share(f"accuracy_{rule.value}", "mean", known.dropna().to_numpy(dtype=float) == 1)
    if part["cut"].notna().any():
        yield _share("cut_share", "mean", part["cut"].dropna().to_numpy(dtype=float) == 1)
    for column in ("construction", "method"):
        for name in part[column].dropna().unique():
            yield _share("accuracy", f"{column}: {name}", right[(part[column] == name).to_numpy()])


def metric_name(task: Task) -> str:
    """Returns what the quality of a task's answers is called in tables, such as slot_f1."""
    return "quality" if task.answer is None else str(task.answer.metric).replace("-", "_")


def _share(metric: str, aggregation: str, right: np.ndarray) -> Number:
    n, count = len(right), int(right.sum())
    return metric, aggregation, n, count / n if n else np.nan, wilson_interval(count, n)
