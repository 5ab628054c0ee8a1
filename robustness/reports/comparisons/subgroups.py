"""Parts of a test set in which the arms can differ: by text, by label, by what the attack may spend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.comparisons.grid import STATUS_CODES, OutcomeGrid, RowIndex
from robustness.reports.tables.examples import RIGHT

SHARES = (0.1, 0.25)
"""Shares of changed words at which budgets are cut."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What parts are made of, for every outcome, shape (rows,) each; made once for all places."""

    grid: OutcomeGrid
    costs: dict[str, NDArray[np.float64]]
    """queries, distance and modified_share."""
    golds: tuple[NDArray[np.int64], pd.Index]
    """Codes and names."""
    qualities: NDArray[np.float64]
    """Of the clean texts."""
    words: NDArray[np.float64]
    """Of the clean text, or of the row where there is none."""
    entropies: NDArray[np.float64]
    """In bits, of what people said of the label; nan where it is not known."""
    names: dict[str, tuple[NDArray[np.int64], pd.Index]]
    """Codes (-1: none) and names of methods and constructions."""


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Some of the paired examples, and whether each arm withstands there."""

    where: str
    what: str
    reference: RowIndex
    """Rows of the reference; the candidate's are in the same order."""
    candidate: RowIndex
    reference_robust: NDArray[np.bool_]
    candidate_robust: NDArray[np.bool_]


def read_columns(grid: OutcomeGrid) -> Columns:
    """Returns the columns of all outcomes."""
    frame = grid.frame
    return Columns(
        grid=grid,
        costs={name: grid.numbers(name) for name in ("queries", "distance", "modified_share")},
        golds=pd.factorize(frame["gold"]),
        qualities=grid.numbers("clean_quality"),
        words=_count_words(frame["original_text"].fillna(frame["adversarial_text"])),
        entropies=grid.numbers("label_entropy") if "label_entropy" in frame else np.full(len(frame), np.nan),
        names={name: pd.factorize(frame[name]) for name in ("method", "construction") if name in frame},
    )


def _count_words(texts: pd.Series) -> NDArray[np.float64]:
    codes, distinct = pd.factorize(texts)
    counts: NDArray[np.float64] = np.array([*(len(str(text).split()) for text in distinct), np.nan])
    return np.asarray(counts[codes])


def split_subgroups(
    columns: Columns, reference: RowIndex, candidate: RowIndex, labels: Sequence[str]
) -> Iterator[Subgroup]:
    """Yields thirds by length, clean margin and label entropy, labels, and AdvGLUE's methods and constructions."""
    grid = columns.grid

    def part(chosen: NDArray[np.bool_], where: str, what: str) -> Subgroup:
        rows = reference[chosen], candidate[chosen]
        return Subgroup(where, what, *rows, *(grid.robust[arm] == RIGHT for arm in rows))

    margins = _mean(columns.qualities[reference], columns.qualities[candidate])
    for where, values, names, unit in (
        ("text length", columns.words[reference], ("short", "middling", "long"), "words"),
        ("clean margin", margins, ("narrow", "middling", "wide"), "mean score"),
        ("label entropy", columns.entropies[reference], ("agreed", "middling", "disputed"), "bits"),
    ):
        for chosen, what in _thirds(values, names, unit):
            yield part(chosen, where, what)
    golds = columns.golds[0][reference]
    present = [code for code in columns.golds[1].get_indexer(list(labels)) if code >= 0 and (golds == code).any()]
    for code in present if len(present) > 1 else ():
        yield part(golds == code, "label", str(columns.golds[1][code]))
    for where, (codes, names) in columns.names.items():
        mine = codes[reference]
        for code in pd.unique(mine[mine >= 0]):
            yield part(mine == code, where, str(names[code]))


def split_budgets(columns: Columns, reference: RowIndex, candidate: RowIndex) -> Iterator[Subgroup]:
    """Yields all examples under smaller budgets: three of queries or epsilon, two of changed words.

    An example withstands budget b if it was right before the attack and no text of cost at most b broke it. The cuts
    are quartiles of the costs of successes on either arm.
    """
    column = "queries" if np.isnan(columns.costs["distance"][reference]).all() else "distance"
    noun = "epsilon" if column == "distance" else "queries"
    spent = np.concatenate([_costs(columns, column, arm) for arm in (reference, candidate)])
    spent = spent[~np.isnan(spent)]
    cuts: list[tuple[str, float, str]] = []
    if len(spent):
        quartiles = np.unique(np.quantile(spent, [0.25, 0.5, 0.75], method="lower"))
        cuts += [(column, float(cut), f"{noun} <= {cut:.4g}") for cut in quartiles]
    if not np.isnan(columns.costs["modified_share"][reference]).all():
        cuts += [("modified_share", cut, f"words changed <= {cut:.0%}") for cut in SHARES]
    for name, cut, what in cuts:
        robust = (_withstand(columns, name, cut, arm) for arm in (reference, candidate))
        yield Subgroup("budget", what, reference, candidate, *robust)


def _costs(columns: Columns, column: str, rows: RowIndex) -> NDArray[np.float64]:
    """What successes cost, nan elsewhere."""
    broken = columns.grid.statuses[rows] == STATUS_CODES[Status.SUCCEEDED]
    return np.where(broken, columns.costs[column][rows], np.nan)


def _withstand(columns: Columns, column: str, cut: float, rows: RowIndex) -> NDArray[np.bool_]:
    right = columns.grid.statuses[rows] != STATUS_CODES[Status.SKIPPED]
    kept: NDArray[np.bool_] = right & ~(_costs(columns, column, rows) <= cut + 1e-9)
    return kept


def _mean(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of what is known of the two."""
    return np.where(np.isnan(first), second, np.where(np.isnan(second), first, (first + second) / 2))


def _thirds(
    values: NDArray[np.float64], names: tuple[str, str, str], unit: str
) -> Iterator[tuple[NDArray[np.bool_], str]]:
    known = values[~np.isnan(values)]
    if len(np.unique(known)) < 3:
        return
    first, second = np.quantile(known, [1 / 3, 2 / 3])
    parts = (values <= first, (values > first) & (values <= second), values > second)
    bounds = (f"up to {first:.3g}", f"{first:.3g} to {second:.3g}", f"over {second:.3g}")
    for name, part, bound in zip(names, parts, bounds, strict=True):
        yield part, f"{name} ({bound} {unit})"
