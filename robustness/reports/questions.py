"""Rows of testsets.csv and pairs.csv for questions: exact match and F1, of altered rows, all rows, and officially."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.stats import mcnemar_exact, paired_difference_interval, paired_drop, paired_permutation
from robustness.stats.grouped import worst_altered_rows, worst_per_group
from robustness.stats.intervals import bootstrap_mean_interval

METRICS = {"f1": ("score", "clean_score"), "exact_match": ("adversarial_prediction", "clean_prediction")}
"""The columns of examples.csv that hold a row's score and that of its original."""

Row = dict[str, object]
Column = NDArray[np.float64]


def answer_rows(part: pd.DataFrame, seed: int) -> list[Row]:
    """Returns testsets.csv's rows of one checkpoint on one set of questions.

    `altered`, the headline, is the mean over the altered rows, those whose original is known; `mean` is over all
    rows, originals among them. `official` is what Jia and Liang's script computes (arXiv 1707.07328): over original
    questions, of each the altered row with the lowest F1 (the original only where there is none), exact match of
    that same row. On just the altered rows too: `benign_f1`, the originals' own, and `f1_drop`, what is lost of it;
    and the same of exact match. Intervals draw whole questions.
    """
    judged = part[part["status"] != Status.ERRORED]
    errored = len(part) - len(judged)
    groups = judged["group_id"].to_numpy(dtype=object)
    f1 = judged["score"].to_numpy(dtype=float)
    altered = judged["clean_score"].notna().to_numpy()
    worst = worst_altered_rows(f1, groups, altered)
    rows: list[Row] = []
    for metric, columns in METRICS.items():
        values, originals = (judged[name].to_numpy(dtype=float) for name in columns)
        if altered.any():
            rows.append(_row(metric, "altered", values[altered], groups[altered], errored, seed))
        rows.append(_row(metric, "mean", values, groups, errored, seed))
        if altered.any():
            before, after, names = originals[altered], values[altered], groups[altered]
            rows += [
                _row(metric, "official", values[worst], groups[worst], errored, seed),
                _row(f"benign_{metric}", "altered", before, names, errored, seed),
                _row(f"{metric}_drop", "altered", before - after, names, errored, seed),
            ]
    return rows


def _row(metric: str, aggregation: str, values: Column, groups: NDArray[np.generic], errored: int, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    interval = bootstrap_mean_interval(values, groups, rng=rng) if len(values) else None
    return {
        "metric": metric,
        "aggregation": aggregation,
        "n": len(values),
        "n_errored": errored,
        "value": values.mean() if len(values) else None,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
    }


def answer_pair_rows(full: pd.DataFrame, peft: pd.DataFrame, seed: int) -> Iterator[Row]:
    """Yields pairs.csv's rows of one set of questions: each metric and aggregation, full against PEFT.

    Exact matches of one row a question are tested by McNemar's exact test; F1, and rows of which several belong to
    one question, by the paired permutation of whole questions. `both_correct` are the rows whose originals both arms
    answer exactly.
    """
    both = full.merge(peft, on="example_id", suffixes=("_full", "_peft"))
    both = both[(both["status_full"] != Status.ERRORED) & (both["status_peft"] != Status.ERRORED)]
    right = (both["clean_prediction_full"] == 1) & (both["clean_prediction_peft"] == 1)
    populations = {"all": both, "both_correct": both[right]}
    for population, part in populations.items():
        if not len(part):
            continue
        groups = part["group_id_full"].to_numpy(dtype=object)
        for metric, columns in METRICS.items():
            score, clean = (
                [part[f"{name}_{arm}"].to_numpy(dtype=float) for arm in ("full", "peft")] for name in columns
            )
            names: Row = {"metric": metric, "population": population, "family": f"{population} {metric}"}
            yield (
                names
                | {"aggregation": "mean"}
                | _comparison(score, groups, metric, seed)
                | _drop(score, clean, groups, seed)
            )
            if len(set(groups)) < len(groups):
                worst = [worst_per_group(column, groups)[0] for column in score]
                known = np.unique(groups)
                names["family"] = f"{population} {metric} worst-per-group"
                yield names | {"aggregation": "worst-per-group"} | _comparison(worst, known, metric, seed)


def _comparison(score: list[Column], groups: NDArray[np.generic], metric: str, seed: int) -> Row:
    full, peft = score
    differences = full - peft
    rng = np.random.default_rng(seed)
    interval = paired_difference_interval(differences, groups, rng=rng)
    one_each = len(np.unique(groups)) == len(groups)
    if metric == "exact_match" and one_each:
        exact = mcnemar_exact(full, peft)
        test, p_value = exact.name, exact.p_value
    else:
        test = "permutation" if one_each else "permutation-of-groups"
        p_value = paired_permutation(differences, groups, rng=rng)
    return {
        "n": len(full),
        "reference_value": full.mean(),
        "candidate_value": peft.mean(),
        "difference": differences.mean(),
        "low": interval.low,
        "high": interval.high,
        "test": test,
        "p_value": p_value,
        "differences": differences,
        "groups": groups,
    }


def _drop(score: list[Column], clean: list[Column], groups: NDArray[np.generic], seed: int) -> Row:
    known = ~np.isnan(clean[0]) & ~np.isnan(clean[1])
    if not known.any():
        return {}
    drop = paired_drop(clean[0][known], score[0][known], clean[1][known], score[1][known])
    interval = paired_difference_interval(drop, groups[known], rng=np.random.default_rng(seed))
    return {"drop_difference": drop.mean(), "drop_low": interval.low, "drop_high": interval.high}
