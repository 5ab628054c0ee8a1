"""What a dose may change, one number for each checkpoint: accuracies, effort to break and adversarial distance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.studies.folder import Study, StudyCheckpoint
from robustness.reports.studies.scores import POOLED, Column, Scores, StudyScores
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_columns
from robustness.runs.cells import NO_ATTACK, WORST_CASE

SHARES = (0.5, 0.25, 0.1)
"""Of broken examples, whose effort is compared: the largest that every checkpoint reaches."""
FEWEST = 20
"""Examples that an effort or a distance needs."""
PROBE, QUANTITY, NORM = "adversarial-distance", "relative-distance", "l2"


class Measure(StrEnum):
    """What is held against the dose."""

    ROBUST = "robust_accuracy"
    CLEAN = "clean_accuracy"
    EFFORT = "effort"
    DISTANCE = "distance"

    @property
    def is_ratio(self) -> bool:
        """Whether values are compared by their logarithm, so that slopes are doublings per doubling."""
        return self in (Measure.EFFORT, Measure.DISTANCE)

    @property
    def words(self) -> str:
        """What readers call it."""
        return {
            Measure.ROBUST: "robust accuracy",
            Measure.CLEAN: "clean accuracy",
            Measure.EFFORT: "effort to break",
            Measure.DISTANCE: "adversarial distance",
        }[self]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure on one cell: a number of each arm, from examples that all arms have."""

    task: str
    testset: str
    attack: str
    measure: Measure
    arms: tuple[StudyCheckpoint, ...]
    values: Column
    """Fractions, effort or distance; shape (arms,)."""
    n: int
    unit: str
    table: Column | None = None
    """What the values are means of, shape (arms, n); None: no means."""
    groups: NDArray[np.int64] | None = None
    """Shape (n,)."""
    is_control: bool = False

    @property
    def is_pooled(self) -> bool:
        """Whether it is of all planned cells as one."""
        return self.testset == POOLED

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seed of each arm."""
        return tuple(arm.train_seed for arm in self.arms)

    @property
    def scaled(self) -> Column:
        """The values that trends are fitted to: fractions, or log2."""
        return np.log2(self.values) if self.measure.is_ratio else self.values


def measure_all(study: Study, scores: StudyScores) -> list[Measured]:
    """Returns every measure of every cell; the pooled ones of a task first."""
    found: list[Measured] = []
    for task in dict.fromkeys(cell.task for cell in scores.cells):
        cells = [cell for cell in scores.cells if cell.task == task]
        made = [each for cell in cells for each in _accuracies(cell)]
        efforts = [each for cell in cells if (each := effort_of(cell)) is not None]
        distances = list(_distances(study, task))
        made += [*_pooled_ratio(efforts), *efforts, *_pooled_ratio(distances), *distances]
        found += sorted(made, key=lambda each: not each.is_pooled)
    return found


def _accuracies(cell: Scores) -> Iterator[Measured]:
    """Robust accuracy of an attacked or adversarial cell; clean accuracy of all as one, and of clean sets."""
    is_clean_set = cell.is_control and cell.attack == NO_ATTACK
    if cell.n and not cell.is_control:
        yield _mean_of(cell, Measure.ROBUST, cell.robust)
    if cell.n and is_clean_set:
        yield _mean_of(cell, Measure.CLEAN, cell.robust)
    known = cell.where(cell.clean_known)
    if cell.testset == POOLED and known.n:
        yield _mean_of(known, Measure.CLEAN, known.clean)


def _mean_of(cell: Scores, measure: Measure, table: Column) -> Measured:
    return Measured(
        task=cell.task,
        testset=cell.testset,
        attack=cell.attack,
        measure=measure,
        arms=cell.arms,
        values=table.mean(axis=1),
        n=cell.n,
        unit="fraction",
        table=table,
        groups=cell.groups,
        is_control=cell.is_control,
    )


def effort_of(cell: Scores) -> Measured | None:
    """Returns the effort that breaks the same share of the examples that all arms have right; None if too few break.

    An example that an attack gives up on takes more than any other. So the value is a quantile over all examples:
    the median if every arm breaks on half. A mean over broken examples would be of other examples on every arm.
    """
    if cell.is_control or cell.attack in (NO_ATTACK, WORST_CASE) or cell.testset == POOLED:
        return None
    right = (cell.clean == 1).all(axis=0) & ~np.isnan(cell.effort).any(axis=0)
    spent = np.sort(cell.effort[:, right], axis=1)
    n = spent.shape[1]
    if n < FEWEST:
        return None
    broken = float(np.isfinite(spent).mean(axis=1).min())
    share = next((each for each in SHARES if each <= broken), None)
    if share is None:
        return None
    values = spent[:, math.ceil(share * n) - 1]
    if (values <= 0).any():
        return None
    return Measured(
        task=cell.task,
        testset=cell.testset,
        attack=cell.attack,
        measure=Measure.EFFORT,
        arms=cell.arms,
        values=values,
        n=n,
        unit=f"{cell.effort_kind.replace('_', ' ')} to break {100 * share:.0f} %",
    )


def _pooled_ratio(parts: Sequence[Measured]) -> list[Measured]:
    """The geometric mean over cells, of the arms that all of them have; none of fewer than one."""
    if not parts:
        return []
    arms = tuple(arm for arm in parts[0].arms if all(arm in part.arms for part in parts))
    if not arms:
        return []
    logs = np.mean([[math.log2(part.values[part.arms.index(arm)]) for arm in arms] for part in parts], axis=0)
    units = dict.fromkeys(part.unit for part in parts)
    return [
        Measured(
            task=parts[0].task,
            testset=POOLED,
            attack=POOLED if parts[0].measure is Measure.EFFORT else NO_ATTACK,
            measure=parts[0].measure,
            arms=arms,
            values=np.exp2(logs),
            n=sum(part.n for part in parts),
            unit=next(iter(units)) if len(units) == 1 else "geometric mean",
        )
    ]


def _distances(study: Study, task: str) -> Iterator[Measured]:
    """Median distances of the examples that all arms have right, by test set."""
    frames = []
    for run in study.runs:
        path = run.folder / f"{Table.SENSITIVITY_EXAMPLES}.csv"
        if run.task != task or not path.is_file():
            continue
        names = ("checkpoint", "testset", "probe", "quantity", "norm", "example_id", "value")
        rows = read_columns(Table.SENSITIVITY_EXAMPLES, path, names)
        rows = rows[(rows["probe"] == PROBE) & (rows["quantity"] == QUANTITY) & (rows["norm"] == NORM)]
        arms = {each.name: study.find_checkpoint(each.name, run) for each in run.record.checkpoints}
        rows = rows.astype({"checkpoint": object, "testset": object, "example_id": object})
        frames.append(rows.assign(arm=[arms.get(name) for name in rows["checkpoint"]]))
    every = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["arm", "testset"])
    every = every[every["arm"].notna()]
    for testset, part in every.groupby("testset", sort=False):
        table = part.pivot_table(index="arm", columns="example_id", values="value", aggfunc="first", sort=False)
        common = table.loc[:, (table > 0).all(axis=0)]  # 0: the answer is wrong as it stands
        if common.shape[1] >= FEWEST:
            yield Measured(
                task=task,
                testset=str(testset),
                attack=NO_ATTACK,
                measure=Measure.DISTANCE,
                arms=tuple(common.index),
                values=common.median(axis=1).to_numpy(),
                n=common.shape[1],
                unit="median token norms",
            )
