"""Rows of testsets.csv and pairs.csv for questions: exact match and F1, of altered rows, all rows, and officially."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.comparisons.comparison import DROP_LIMIT, Comparison, Family, has_repeats
from robustness.reports.comparisons.grid import OutcomeGrid, RowIndex
from robustness.stats import Estimate, mcnemar_exact, mean_difference, paired_permutation, rarer_share
from robustness.stats.grouped import worst_altered_rows
from robustness.stats.intervals import bootstrap_mean_interval

METRICS = {"f1": ("quality", "clean_quality"), "exact_match": ("correct", "clean_correct")}
"""The columns of examples.csv that hold a row's score and that of its original."""

Row = dict[str, object]
Column = NDArray[np.float64]


def answer_rows(part: pd.DataFrame, seed: int) -> list[Row]:
    """Returns testsets.csv's rows of one checkpoint on one set of questions.

    `altered`, the headline, is the mean over the altered rows, those whose original is known; `mean` is over all
    rows, originals among them. `official` is the score of Jia and Liang's script (arXiv 1707.07328). It has one row
    for each question: the altered row with the lowest F1 (the original if there is none), with its exact match. On
    only the altered rows too: `benign_f1`, the originals' own, and `f1_drop`, the loss; and the same of exact match.
    Intervals draw whole questions.
    """
    judged = part[part["status"] != Status.ERRORED]
    errored = len(part) - len(judged)
    groups = judged["group_id"].to_numpy(dtype=object)
    f1 = judged["quality"].to_numpy(dtype=float)
    altered = judged["clean_quality"].notna().to_numpy()
    # The worst row of a question of which a row errored is not known.
    lost = part.loc[part["status"] == Status.ERRORED, "group_id"]
    whole = np.flatnonzero(~judged["group_id"].isin(lost).to_numpy())
    worst = whole[worst_altered_rows(f1[whole], groups[whole], altered[whole])] if len(whole) else whole
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


@dataclass(frozen=True, slots=True)
class PairedScores:
    """F1 and exact match of the same rows on both arms; each array is of shape (2, n), the reference first."""

    f1: Column
    exact: Column
    clean_f1: Column
    """Of the original question; nan where it is not known."""
    clean_exact: Column
    groups: NDArray[Any]
    """Shape (n,)."""

    def where(self, mask: NDArray[np.bool_]) -> PairedScores:
        """The rows that the mask keeps."""
        return PairedScores(
            self.f1[:, mask],
            self.exact[:, mask],
            self.clean_f1[:, mask],
            self.clean_exact[:, mask],
            self.groups[mask],
        )

    @property
    def altered(self) -> NDArray[np.bool_]:
        """Which rows are altered forms of a question whose original both arms were asked too."""
        return np.asarray(~np.isnan(self.clean_f1).any(axis=0))


def read_scores(grid: OutcomeGrid, rows: tuple[RowIndex, RowIndex]) -> PairedScores:
    """Returns the scores of matched rows of both arms."""

    def column(name: str) -> Column:
        return np.stack([grid.numbers(name)[arm] for arm in rows])

    exact, clean_exact = column("correct"), column("clean_correct")
    return PairedScores(column("quality"), exact, column("clean_quality"), clean_exact, grid.groups[rows[0]])


def compare_answers(
    grid: OutcomeGrid, arms: tuple[RowIndex, RowIndex], labels: Mapping[str, object], *, is_clean: bool, seed: int
) -> Iterator[Comparison]:
    """Yields the comparisons of one set of questions as it stands.

    The headline is F1 over the altered rows, since unaltered ones dilute the effect of the alteration. A set without
    known originals has F1 over all rows instead. Beside it F1 and exact match over all rows, Jia and Liang's official
    score (`worst_altered_rows`), and the rows whose originals both arms answer exactly.
    """
    scores = read_scores(grid, grid.match(*arms))
    altered = scores.altered
    planned = Family.CONTROL if is_clean else Family.PLANNED
    populations = {"all": scores}
    if altered.any():
        populations = {"altered": scores.where(altered)} | populations
    for population, part in populations.items():
        headline = population == next(iter(populations))
        for metric in METRICS:
            family = planned if headline and metric == "f1" else Family.SECONDARY
            found = _compare(part, metric, labels, family, seed=seed)
            yield replace(found, population=population, is_clean=is_clean)
    if altered.any():
        whole = ~np.isin(scores.groups, incomplete_groups(grid, arms))
        official = _official(scores.where(whole))
        for metric in METRICS if len(official.groups) else ():
            found = _compare(official, metric, labels, Family.SECONDARY, seed=seed)
            yield replace(found, aggregation="official")
    both = altered & (scores.clean_exact == 1).all(axis=0)
    if both.any():
        for metric in METRICS:
            found = _compare(scores.where(both), metric, labels, Family.SECONDARY, seed=seed)
            yield replace(found, population="both_correct", clean=None, success=None, drop=None)


def incomplete_groups(grid: OutcomeGrid, arms: Sequence[RowIndex]) -> NDArray[np.int64]:
    """Returns the groups of which some example has no judged outcome: nobody knows their worst row."""
    known = np.logical_and.reduce([grid.known(places) for places in arms])
    lost = [places[(places >= 0) & ~known] for places in arms]
    return np.unique(grid.groups[np.concatenate(lost)])


def _official(scores: PairedScores) -> PairedScores:
    """Of every question the row that counts, which may be another on each arm."""
    places = np.stack([worst_altered_rows(f1, scores.groups, scores.altered) for f1 in scores.f1])
    f1, exact = (np.take_along_axis(each, places, axis=1) for each in (scores.f1, scores.exact))
    unknown = np.full_like(f1, np.nan)
    return PairedScores(f1, exact, unknown, unknown, scores.groups[places[0]])


def _compare(
    scores: PairedScores, metric: str, labels: Mapping[str, object], family: Family, *, seed: int
) -> Comparison:
    values, clean = (scores.f1, scores.clean_f1) if metric == "f1" else (scores.exact, scores.clean_exact)
    groups = scores.groups if has_repeats(scores.groups) else None
    differences = values[0] - values[1]
    known = scores.altered
    gap = np.where(known, clean[0] - clean[1], 0.0)
    both = known & (scores.clean_exact == 1).all(axis=0)

    def estimate(column: Column, mask: NDArray[np.bool_], limit: float = 1.0) -> Estimate:
        return mean_difference(column[mask], None if groups is None else groups[mask], limit=limit)

    if metric == "exact_match" and groups is None:
        exact = mcnemar_exact(*values)
        test, p_value = exact.name, exact.p_value
    else:
        test = "permutation" if groups is None else "permutation-of-groups"
        p_value = paired_permutation(differences, groups, rng=np.random.default_rng(seed))
    return Comparison(
        labels=labels,
        metric=metric,
        population="all",
        family=family,
        n=len(differences),
        reference_value=float(values[0].mean()),
        candidate_value=float(values[1].mean()),
        estimate=mean_difference(differences, groups),
        test=test,
        p_value=p_value,
        clean=estimate(gap, known) if known.any() else None,
        success=estimate(differences, both) if both.any() else None,
        drop=estimate(differences - gap, known, DROP_LIMIT) if known.any() else None,
        rarer_share=rarer_share(differences) if metric == "exact_match" else None,
    )
