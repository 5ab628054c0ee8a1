"""study_table.csv: each method beside full fine-tuning, on every test set and attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustness.reports.comparisons.methods import fragile_verdicts
from robustness.reports.comparisons.seeds import MIN_SEEDS
from robustness.reports.studies.columns import StudyTable, arrange_study
from robustness.reports.studies.differences import MethodDifference, compare_with_full, noise_floor
from robustness.reports.studies.folder import Study, StudyCheckpoint
from robustness.reports.studies.scores import POOLED, Block, Scores, StudyScores
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import Reason, Verdict, holm, judge

MOST_LEFT_OUT = 0.05
"""A larger share of examples without an outcome withholds the verdict."""
NOT_COMPARED = "trained, but in no run: jobs.csv says why"
MARGIN = 0.02
ALPHA = 0.05
Row = dict[str, object]


def build_study_table(study: Study, scores: StudyScores) -> pd.DataFrame:
    """Returns study_table.csv's rows; a method without any trained checkpoint has one row, with the reason.

    Differences are over the training seeds that method and full fine-tuning have in common, on the examples that all
    checkpoints of the task have. The row of all cells as one is the primary comparison of a method, tested alone.
    The p-values of its single cells are adjusted by Holm. With two seeds no verdict is given; with one, it is of two
    checkpoints. Whether a difference is fragility is told from the examples whose score before the attack is known.
    """
    rows: list[Row] = []
    for block in scores.blocks:
        cells = list(scores.of(block))
        full = [arm for arm in block.arms if arm.is_full]
        for method in study.methods:
            arms = [arm for arm in block.arms if arm.method == method]
            listed = arms or _untrained(study, block, method)
            found = _judged(list(_method_entries(cells, full, arms))) if arms else [_reason_row(listed)]
            rows += [_labels(block, listed) | row for row in found]
    return arrange_study(StudyTable.STUDY_TABLE, rows)


def method_arms(arms: Sequence[StudyCheckpoint]) -> dict[str, list[StudyCheckpoint]]:
    """Returns checkpoints by method, in order of appearance."""
    found: dict[str, list[StudyCheckpoint]] = {}
    for arm in arms:
        found.setdefault(arm.method, []).append(arm)
    return found


def _labels(block: Block, arms: Sequence[StudyCheckpoint]) -> Row:
    first = arms[0] if arms else None
    return {
        "task": block.task,
        "rows": block.rows,
        "matching": block.matching,
        "method": first.method if first else "",
        "family": first.family if first else "",
        "parameters": first.parameters if first else "",
        "trainable_parameters": _mean([arm.trainable_parameters for arm in arms]),
        "trainable_share": _mean([arm.trainable_share for arm in arms]),
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _untrained(study: Study, block: Block, method: str) -> list[StudyCheckpoint]:
    """The method's checkpoints of a block that has none of it; those of full serve both matchings."""
    found = [each for each in study.checkpoints if (each.task, each.method) == (block.task, method)]
    found = [each for each in found if each.rows == block.rows or math.isnan(each.rows + block.rows)]
    return [each for each in found if each.matching is block.matching] or found


def _reason_row(arms: Sequence[StudyCheckpoint]) -> Row:
    reasons = dict.fromkeys(f"{arm.status}: {arm.reason}" if arm.reason else NOT_COMPARED for arm in arms)
    return {"n_seeds": 0, "reason": "; ".join(reasons)}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One method on one cell, before its family of tests is known."""

    cell: Scores
    row: Row
    compared: MethodDifference | None
    """With full fine-tuning; None of full itself, and where no full checkpoint has its seeds."""
    contrast: str
    """With full fine-tuning."""

    @property
    def is_adjusted(self) -> bool:
        """Whether its p-value is one of the family of single planned cells."""
        return not self.cell.is_control and self.cell.testset != POOLED


def _method_entries(
    cells: Sequence[Scores], full: Sequence[StudyCheckpoint], arms: Sequence[StudyCheckpoint]
) -> Iterator[_Entry]:
    for cell in cells:
        present = [arm for arm in arms if arm in cell.arms]
        if not present or not cell.n:
            continue
        compared = None if arms[0].is_full else compare_with_full(cell, full, present)
        yield _Entry(cell, _values(cell, present, full), compared, arms[0].contrast)


def _values(cell: Scores, arms: Sequence[StudyCheckpoint], full: Sequence[StudyCheckpoint]) -> Row:
    mine, floor = cell.of(arms), noise_floor(cell, full)
    by_arm = mine.robust.mean(axis=1)
    known = mine.where(cell.clean_known)
    before = known.clean.mean(axis=1) if known.n else np.array([math.nan])
    return {
        "testset": cell.testset,
        "attack": cell.attack,
        "metric": cell.metric,
        "n": cell.n,
        "n_left_out": cell.n_left_out,
        "n_clean": known.n,
        "n_seeds": len({arm.train_seed for arm in arms}),
        "clean_value": before.mean(),
        "clean_sd": _spread(before),
        "value": by_arm.mean(),
        "sd": _spread(by_arm),
        "noise_floor": floor.typical,
        "noise_largest": floor.largest,
        "role": _role(cell),
    }


def _role(cell: Scores) -> str:
    if cell.is_control:
        return "control"
    if cell.testset == POOLED:
        return "primary"
    return "worst-case" if cell.attack == WORST_CASE else "planned"


def _spread(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _judged(entries: Sequence[_Entry]) -> list[Row]:
    """With differences, adjusted p-values and verdicts."""
    p_values = [each.compared.estimate.p_value for each in entries if each.compared and each.is_adjusted]
    adjusted = iter(holm(p_values).tolist()) if p_values else iter(())
    rows = []
    for each in entries:
        if each.compared is None:
            rows.append(each.row)
            continue
        p_value = each.compared.estimate.p_value
        counted = next(adjusted) if each.is_adjusted else p_value
        in_tests = not each.cell.is_control
        rows.append(
            each.row
            | _difference(each.cell, each.compared, counted, each.contrast)
            | {"p_adjusted": counted if in_tests else math.nan}
        )
    return rows


def _difference(cell: Scores, compared: MethodDifference, p_value: float, contrast: str) -> Row:
    interval, n_seeds = compared.estimate.interval(), len(compared.seeds)
    withheld = None
    if cell.n_left_out > MOST_LEFT_OUT * (cell.n + cell.n_left_out):
        withheld = Reason.LEFT_OUT
    if 1 < n_seeds < MIN_SEEDS:  # as of pairs: no examples make up for a third seed
        withheld = Reason.TWO_SEEDS
    is_clean = cell.is_control and cell.attack == NO_ATTACK
    judged = judge(compared.evidence(p_value, is_clean=is_clean), margin=MARGIN, alpha=ALPHA)
    words = dict(zip(fragile_verdicts(""), fragile_verdicts(contrast), strict=True))
    return {
        "n_seeds": n_seeds,
        "difference": compared.estimate.difference,
        "low": interval.low,
        "high": interval.high,
        "p_value": compared.estimate.p_value,
        "verdict": Verdict.INCONCLUSIVE if withheld else words.get(judged.verdict, judged.verdict),
        "reason": withheld or judged.reason or "",
    }
