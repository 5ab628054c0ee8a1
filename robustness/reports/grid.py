"""Outcomes as arrays, and where those of each cell stand: arms are paired by looking up places, not by joining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.evaluation import NO_ATTACK
from robustness.engine.outcome import Status
from robustness.reports.examples import UNKNOWN, judge, keeps_prediction

Places = NDArray[np.int64]
"""For each example of a test set the row of its outcome, -1 where there is none; shape (examples,)."""
STATUS_RANKS = {Status.FAILED: 0, Status.SKIPPED: 1, Status.ERRORED: 2, Status.SUCCEEDED: 3}
"""Over several attacks: broken if one succeeded, otherwise unknown if one errored."""


@dataclass(frozen=True, slots=True)
class OutcomeGrid:
    """examples.csv's rows, what was right in each, and the places of every cell."""

    frame: pd.DataFrame
    robust: NDArray[np.int8]
    """1 right, 0 wrong, -1 unknown; shape (rows,), as the two below."""
    clean: NDArray[np.int8]
    groups: NDArray[np.int64]
    cells: dict[str, dict[tuple[str, str], Places]]
    """By checkpoint, then test set and attack, in the order of the rows."""
    keeping: frozenset[str]
    """Attacks whose success is no wrong answer."""
    statuses: NDArray[np.int8]
    """`STATUS_RANKS` of every row."""

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column as numbers, nan where it is empty."""
        return np.asarray(self.frame[column].to_numpy(dtype=np.float64, na_value=np.nan))

    def match(self, full: Places, peft: Places) -> tuple[Places, Places]:
        """The rows of the examples whose outcome is known on both arms, side by side."""
        both = (full >= 0) & (peft >= 0)
        both &= (self.robust[full] != UNKNOWN) & (self.robust[peft] != UNKNOWN)
        return full[both], peft[both]


def build_grid(examples: pd.DataFrame) -> OutcomeGrid:
    """Returns the grid of examples.csv's rows."""
    testset, example, group = (pd.factorize(examples[name])[0] for name in ("testset", "example_id", "group_id"))
    within, sizes = _number_within(testset, example)
    cells: dict[str, dict[tuple[str, str], Places]] = {}
    for (checkpoint, *cell), rows in split_cells(examples, ("checkpoint", "testset", "attack")):
        places = np.full(sizes[testset[rows[0]]], -1)
        places[within[rows]] = rows
        cells.setdefault(checkpoint, {})[cell[0], cell[1]] = places
    robust, clean = judge(examples)
    return OutcomeGrid(
        frame=examples,
        robust=robust,
        clean=clean,
        groups=testset * (int(group.max(initial=0)) + 1) + group,
        cells=cells,
        keeping=frozenset(examples["attack"][keeps_prediction(examples)].unique()),
        statuses=_rank_statuses(examples["status"]),
    )


def _number_within(testset: NDArray[np.int64], example: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Each example's number within its test set, and how many each set has."""
    within, sizes = np.zeros(len(testset), dtype=np.int64), []
    for number in range(int(testset.max(initial=-1)) + 1):
        mine = testset == number
        within[mine], names = pd.factorize(example[mine])
        sizes.append(len(names))
    return within, sizes


def _rank_statuses(statuses: pd.Series) -> NDArray[np.int8]:
    codes, known = pd.factorize(statuses)
    ranks: NDArray[np.int8] = np.array([STATUS_RANKS[Status(status)] for status in known], dtype=np.int8)
    return np.asarray(ranks[codes])


def worst_places(places: Sequence[Places], judged: NDArray[np.int8], ranks: Sequence[int]) -> Places:
    """Of each example the first row that ranks highest, over several attacks on one checkpoint and test set.

    Args:
        places: Of each attack.
        judged: What is ranked, of every row: numbers from -1 on.
        ranks: Of 0, 1 and so on, the last of -1; all at least 0.
    """
    table = np.stack(places)
    ranked = np.where(table >= 0, np.asarray(ranks)[judged[table]], -1)
    chosen: Places = np.take_along_axis(table, ranked.argmax(axis=0)[None], axis=0)[0]
    return chosen


def split_cells(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Yields the names and the rows of every cell, in order of appearance; much faster than groups of frames."""
    cell = np.zeros(len(frame), dtype=np.int64)
    for name in keys:
        codes, known = pd.factorize(frame[name])
        cell = pd.factorize(cell * (len(known) + 1) + codes)[0]
    rows = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1]) if len(frame) else []
    columns = [frame[name].to_numpy() for name in keys]
    for mine in rows:
        yield tuple(str(column[mine[0]]) for column in columns), mine


def is_attack(name: str) -> bool:
    """Whether a cell's attack is one."""
    return name != NO_ATTACK
