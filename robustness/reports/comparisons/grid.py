"""Outcomes as arrays, and where those of each cell stand: arms are paired by looking up places, not by joining."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.engine.outcome import Status
from robustness.reports.tables.examples import UNKNOWN, judge, keeps_prediction
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import AttackedRecord, RunRecord

ROBUST, CLEAN = "robust", "clean"
"""What `OutcomeGrid.numbers` gives beside the columns of examples.csv."""
RowIndex = NDArray[np.int64]
"""For each example of a test set the row of its outcome, -1 where there is none; shape (examples,)."""
STATUS_CODES = {status: code for code, status in enumerate(Status)}
_RANKS = {Status.FAILED: 0, Status.SUCCEEDED: 1, Status.SKIPPED: 2, Status.ERRORED: -1}
"""Over several attacks: wrong before them, else broken by one, else withstood."""


@dataclass(frozen=True, slots=True)
class OutcomeGrid:
    """The rows of examples.csv, the correctness of each, and the places of every cell."""

    frame: pd.DataFrame
    robust: NDArray[np.int8]
    """1 right, 0 wrong, -1 unknown; shape (rows,), as the two below."""
    clean: NDArray[np.int8]
    groups: NDArray[np.int64]
    cells: dict[str, dict[tuple[str, str], RowIndex]]
    """By checkpoint, then test set and attack, in the order of the rows."""
    keeping: frozenset[str]
    """Attacks whose success is no wrong answer."""
    statuses: NDArray[np.int8]
    """`STATUS_CODES` of every row."""
    chosen: Mapping[tuple[str, str], NDArray[np.bool_]] | None = None
    """Where only chosen rows are attacked, which, by checkpoint and test set, (examples,): no other is left out."""

    _numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column as numbers, nan where it is empty; converted once, for thousands of comparisons ask for it.

        `ROBUST` and `CLEAN` are correctness, 1 or 0.
        """
        if column not in self._numbers:
            judged = {ROBUST: self.robust, CLEAN: self.clean}.get(column)
            if judged is None:
                numbers = self.frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                numbers = np.where(judged == UNKNOWN, np.nan, judged)
            self._numbers[column] = np.asarray(numbers)
        return self._numbers[column]

    def known(self, places: RowIndex) -> NDArray[np.bool_]:
        """Which examples have a judged outcome there, shape (examples,)."""
        found: NDArray[np.bool_] = (places >= 0) & (self.robust[places] != UNKNOWN)
        return found

    def match(self, reference: RowIndex, candidate: RowIndex) -> tuple[RowIndex, RowIndex]:
        """The rows of the examples whose outcome is known on both arms, side by side."""
        both = self.known(reference) & self.known(candidate)
        return reference[both], candidate[both]

    def asked(self, checkpoints: Sequence[str], testset: str, attack: str) -> NDArray[np.bool_]:
        """Which examples of a cell the checkpoints should have an outcome of, as far as rows tell; (examples,).

        All that one of them has. Of a worst case and of chosen rows, see `asked_under_attack`.
        """
        if attack == WORST_CASE or (self.chosen is not None and attack != NO_ATTACK):
            return self.asked_under_attack(checkpoints, testset)
        cells = [self.cells[name][testset, attack] for name in checkpoints]
        return np.asarray(np.logical_or.reduce([places >= 0 for places in cells]))

    def asked_under_attack(self, checkpoints: Sequence[str], testset: str) -> NDArray[np.bool_]:
        """The same of whole checkpoints, as texts stand or under any attack; of chosen rows the chosen ones."""
        cells = [
            [rows for attack, rows in self.on(name, testset).items() if self.chosen is None or attack != NO_ATTACK]
            for name in checkpoints
        ]
        arms = [np.max(each, axis=0) >= 0 for each in cells]
        found = np.logical_or.reduce(arms)
        if self.chosen is not None:  # an arm of several pairs is attacked on the rows of all of them
            none = np.zeros_like(found)
            found = np.logical_and.reduce([found, *(self.chosen.get((name, testset), none) for name in checkpoints)])
        return np.asarray(found)

    def count_left_out(self, checkpoints: Sequence[str], testset: str, attack: str) -> int:
        """How many examples of a cell should have an outcome, and have no judged one on some checkpoint."""
        known = np.logical_and.reduce([self.known(self.cells[name][testset, attack]) for name in checkpoints])
        return int((self.asked(checkpoints, testset, attack) & ~known).sum())

    def clean_answers(self, checkpoint: str, testset: str) -> NDArray[np.int8]:
        """What the checkpoint answers to the text that attacks start from: 1 right, 0 wrong, -1 unknown; (examples,).

        Known of an example from the test set as it stands, or from any attack that judged it.
        """
        cells = [(key[1], places) for key, places in self.cells.get(checkpoint, {}).items() if key[0] == testset]
        answers = [
            np.where(places >= 0, (self.robust if attack == NO_ATTACK else self.clean)[places], UNKNOWN)
            for attack, places in cells
        ]
        known: NDArray[np.int8] = np.stack(answers).max(axis=0)
        return known

    def on(self, checkpoint: str, testset: str) -> dict[str, RowIndex]:
        """The cells of a test set by attack."""
        cells = self.cells.get(checkpoint, {})
        return {attack: places for (name, attack), places in cells.items() if name == testset}


def without_originals(grid: OutcomeGrid, testsets: Collection[str]) -> OutcomeGrid:
    """Returns the grid without what was answered to the originals of these test sets, which nothing may rest on."""
    if not testsets:
        return grid
    frame = grid.frame
    voided = (frame["attack"] == NO_ATTACK) & frame["testset"].isin(list(testsets))
    return replace(grid, clean=np.where(voided, np.int8(UNKNOWN), grid.clean).astype(np.int8), _numbers={})


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Several attacks as one, on the examples that all the checkpoints have judged under all of them."""

    attacks: tuple[str, ...]
    rows: dict[str, RowIndex]
    """By checkpoint the row that represents each example. It has a wrong clean answer, else it broke, else it
    withstood. -1 if the example is left out."""
    n_left_out: int
    """Examples that some checkpoint or attack has no judged outcome for."""


def worst_case(grid: OutcomeGrid, checkpoints: Sequence[str], testset: str, attacks: Sequence[str]) -> WorstCase:
    """Returns the worst case over the attacks that all checkpoints have.

    An example that a checkpoint had wrong before one attack was wrong before all, also before errored ones.
    """
    cells = {name: grid.on(name, testset) for name in checkpoints}
    shared = tuple(attack for attack in attacks if all(attack in cells[name] for name in checkpoints))
    if not shared:
        return WorstCase((), {}, 0)
    ranks = np.array([_RANKS[status] for status in STATUS_CODES], dtype=np.int8)
    rows: dict[str, RowIndex] = {}
    judged = []
    for name in checkpoints:
        table = np.stack([cells[name][attack] for attack in shared])
        ranked = np.where(table >= 0, ranks[grid.statuses[table]], -1)
        rows[name] = np.take_along_axis(table, ranked.argmax(axis=0)[None], axis=0)[0]
        judged.append((ranked >= 0).all(axis=0) | (ranked == _RANKS[Status.SKIPPED]).any(axis=0))
    common = np.logical_and.reduce(judged)
    asked = grid.asked_under_attack(checkpoints, testset)
    kept = {name: np.where(common, places, -1) for name, places in rows.items()}
    return WorstCase(shared, kept, int((asked & ~common).sum()))


def build_grid(examples: pd.DataFrame, record: RunRecord | None = None) -> OutcomeGrid:
    """Returns the grid of examples.csv's rows; the record says which rows were to be attacked, without it all."""
    testset, example, group = (pd.factorize(examples[name])[0] for name in ("testset", "example_id", "group_id"))
    within, sizes = _number_within(testset, example)
    cells: dict[str, dict[tuple[str, str], RowIndex]] = {}
    for (checkpoint, *cell), rows in split_cells(examples, ("checkpoint", "testset", "attack")):
        places = np.full(sizes[testset[rows[0]]], -1)
        places[within[rows]] = rows
        cells.setdefault(checkpoint, {})[cell[0], cell[1]] = places
    robust, clean = judge(examples)
    chosen = None
    if record is not None and record.attacked is not None:
        chosen = dict(_mark_chosen(examples, within, record.chosen))
    return OutcomeGrid(
        frame=examples,
        robust=robust,
        clean=clean,
        groups=testset * (int(group.max(initial=0)) + 1) + group,
        cells=cells,
        keeping=frozenset(examples["attack"][keeps_prediction(examples)].unique()),
        statuses=_code_statuses(examples["status"]),
        chosen=chosen,
    )


def _mark_chosen(
    examples: pd.DataFrame, within: NDArray[np.int64], chosen: Sequence[AttackedRecord]
) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    """Which examples of each checkpoint and test set are to be attacked, (examples,)."""
    once = examples[["testset", "example_id"]].assign(number=within).drop_duplicates()
    numbers = {
        str(name): dict(zip(mine["example_id"], mine["number"], strict=True))
        for name, mine in once.groupby("testset")
    }
    for each in chosen:
        known = numbers.get(each.testset, {})
        mask = np.zeros(len(known), dtype=bool)
        mask[[known[row] for row in each.rows if row in known]] = True
        yield (each.checkpoint, each.testset), mask


def _number_within(testset: NDArray[np.int64], example: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[int]]:
    """Each example's number within its test set, and how many each set has."""
    within, sizes = np.zeros(len(testset), dtype=np.int64), []
    for number in range(int(testset.max(initial=-1)) + 1):
        mine = testset == number
        within[mine], names = pd.factorize(example[mine])
        sizes.append(len(names))
    return within, sizes


def _code_statuses(statuses: pd.Series) -> NDArray[np.int8]:
    codes, known = pd.factorize(statuses)
    ranks: NDArray[np.int8] = np.array([STATUS_CODES[Status(status)] for status in known], dtype=np.int8)
    return np.asarray(ranks[codes])


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
