"""trends.csv and doses.csv: what robustness does as trainable parameters or training rows double."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from robustness.reports.comparisons.comparison import has_repeats
from robustness.reports.studies.columns import StudyTable, arrange_study
from robustness.reports.studies.folder import Matching, StudyCheckpoint
from robustness.reports.studies.measures import Measure, Measured
from robustness.reports.studies.scores import Column, StudyScores
from robustness.reports.studies.table import ALPHA, MARGIN, method_arms
from robustness.stats import (
    MonotoneTest,
    Slope,
    Trend,
    detectable_slope,
    holm,
    judge_trend,
    monotone_trend,
    separate_seeds,
    slope_over_seeds,
)
from robustness.stats.estimates import Part
from robustness.stats.verdicts import Reason, at_edge


class Dose(StrEnum):
    """What is doubled."""

    PARAMETERS = "trainable_parameters"
    ROWS = "training_rows"


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints that differ in dose and training seed alone."""

    task: str
    matching: Matching
    dose: Dose
    name: str
    """The family of methods, or the method, that the doses are of."""
    rows: float
    """Training rows; nan if these are the dose."""
    arms: tuple[StudyCheckpoint, ...]

    def doses_of(self, arms: Sequence[StudyCheckpoint]) -> Column:
        """Returns log2 of the dose of each."""
        by_rows = self.dose is Dose.ROWS
        return np.log2([arm.rows if by_rows else arm.trainable_parameters for arm in arms])


@dataclass(frozen=True, slots=True)
class DoseTrend:
    """One measure of a series against its dose."""

    series: Series
    measured: Measured
    """Of the series' arms alone."""
    slope: Slope
    order: MonotoneTest
    p_adjusted: float
    """Of the slope."""
    verdict: Trend
    detectable: float
    """The slope that this study would have found."""

    @property
    def doses(self) -> Column:
        """log2 of each checkpoint's dose, shape (arms,)."""
        return self.series.doses_of(self.measured.arms)

    @property
    def edge(self) -> Reason | None:
        """Whether all robust accuracies are at the floor or the ceiling."""
        values = self.measured.values
        return at_edge(values.min(), values.max()) if self.measured.measure is Measure.ROBUST else None


def find_series(scores: StudyScores) -> list[Series]:
    """Returns the series of a study with at least two doses.

    Of parameters: the methods of a family within a block, such as LoRA of several ranks. Of rows: one method at
    several numbers of training rows, full fine-tuning among them.
    """
    found = []
    for block in scores.blocks:
        families: dict[str, list[StudyCheckpoint]] = {}
        for arm in block.arms:
            if not arm.is_full and not math.isnan(arm.trainable_parameters):
                families.setdefault(arm.family, []).append(arm)
        found += [
            Series(block.task, block.matching, Dose.PARAMETERS, family, block.rows, tuple(arms))
            for family, arms in families.items()
        ]
    groups = dict.fromkeys((block.task, block.matching) for block in scores.blocks)
    for task, matching in groups:
        blocks = [block for block in scores.blocks if (block.task, block.matching) == (task, matching)]
        arms = [arm for block in blocks for arm in block.arms if not math.isnan(arm.rows)]
        found += [
            Series(task, matching, Dose.ROWS, method, math.nan, tuple(mine))
            for method, mine in method_arms(arms).items()
        ]
    return [each for each in found if len(set(each.doses_of(each.arms).tolist())) > 1]


def find_trends(scores: StudyScores, measured: Sequence[Measured]) -> list[DoseTrend]:
    """Returns the trend of every measure in every series.

    The trend of all cells as one is the primary one of a measure, tested alone. P-values of single cells are adjusted
    by Holm within the series and the measure.
    """
    trends: list[DoseTrend] = []
    for series in find_series(scores):
        for measure in Measure:
            cells = [each for each in measured if each.task == series.task and each.measure is measure]
            raw = [found for each in cells if (found := _raw(series, each)) is not None]
            trends += _adjusted(raw)
    return trends


def _raw(series: Series, measured: Measured) -> DoseTrend | None:
    places = [measured.arms.index(arm) for arm in series.arms if arm in measured.arms]
    arms = tuple(measured.arms[place] for place in places)
    if len(set(series.doses_of(arms).tolist())) < 2:
        return None
    mine = replace(
        measured,
        arms=arms,
        values=measured.values[places],
        table=None if measured.table is None else measured.table[places],
    )
    slope, values = slope_of(mine, series.doses_of(arms)), mine.scaled
    order = monotone_trend(values, series.doses_of(arms), mine.seeds)
    detectable = detectable_slope(slope, series.doses_of(arms), mine.seeds, alpha=ALPHA)
    return DoseTrend(series, mine, slope, order, slope.estimate.p_value, Trend.NOT_ENOUGH_DATA, detectable)


def slope_of(measured: Measured, doses: Column) -> Slope:
    """Returns the slope of a measure over the doses of its arms, for other seeds and other examples."""
    examples = _of_examples(measured, doses, measured.seeds)
    return slope_over_seeds(measured.scaled, doses, measured.seeds, examples=examples)


def _of_examples(measured: Measured, doses: Column, seeds: Sequence[int]) -> Part | None:
    """Variance of the slope because of the examples, which all seeds share; None where it is not known.

    A slope is a weighted sum of checkpoints, so each example has a slope of its own under each seed. What these have
    in common under all seeds, other examples would change.
    """
    if measured.table is None:
        return None
    seed, slopes = np.asarray(seeds), []
    for each in dict.fromkeys(seeds):
        mine = seed == each
        centred = doses[mine] - doses[mine].mean()
        if (spread := float(centred @ centred)) > 0:
            slopes.append(centred @ measured.table[mine] / spread)
    if len(slopes) < 2 or measured.n < 2:
        return None
    groups = measured.groups if measured.groups is not None and has_repeats(measured.groups) else None
    units = measured.n if groups is None else len(np.unique(groups))
    example = separate_seeds(np.stack(slopes), groups).example
    return None if math.isnan(example) or units < 2 else Part(example**2 / units, units - 1)


def _adjusted(trends: Sequence[DoseTrend]) -> Iterator[DoseTrend]:
    family = [each for each in trends if not each.measured.is_pooled]
    p_values = iter(holm([each.slope.estimate.p_value for each in family]).tolist()) if family else iter(())
    for each in trends:
        p_value = each.slope.estimate.p_value if each.measured.is_pooled else next(p_values)
        yield replace(each, p_adjusted=p_value, verdict=_verdict(each, p_value))


def _verdict(trend: DoseTrend, p_value: float) -> Trend:
    """Robust accuracies that are all at the floor or the ceiling show no trend, and no absence of one either."""
    margin = 0.0 if trend.measured.measure.is_ratio else MARGIN
    found = judge_trend(trend.slope, trend.order, trend.doses, margin=margin, alpha=ALPHA, p_adjusted=_known(p_value))
    if found in (Trend.LEVEL, Trend.NO_TREND) and trend.edge is not None:
        return Trend.NOT_ENOUGH_DATA
    return found


def _known(p_value: float) -> float | None:
    return None if math.isnan(p_value) else p_value


def build_trends(trends: Sequence[DoseTrend]) -> pd.DataFrame:
    """Returns trends.csv's rows."""
    rows: list[dict[str, object]] = []
    for trend in trends:
        interval, series, measured = trend.slope.estimate.interval(), trend.series, trend.measured
        rows.append(
            {
                "task": series.task,
                "rows": series.rows,
                "matching": series.matching,
                "dose": series.dose,
                "series": series.name,
                "testset": measured.testset,
                "attack": measured.attack,
                "measure": measured.measure,
                "n_checkpoints": len(measured.arms),
                "n_doses": len(np.unique(trend.doses)),
                "n_seeds": len(set(measured.seeds)),
                "n": measured.n,
                "slope": trend.slope.estimate.difference,
                "low": interval.low,
                "high": interval.high,
                "unit": "doublings" if measured.measure.is_ratio else "fraction",
                "fit": trend.slope.fit,
                "kendall": trend.order.statistic,
                "order_p_value": trend.order.p_value,
                "p_value": trend.slope.estimate.p_value,
                "p_adjusted": trend.p_adjusted,
                "verdict": trend.verdict,
                "detectable": trend.detectable,
            }
        )
    return arrange_study(StudyTable.TRENDS, rows)


def build_doses(scores: StudyScores, measured: Sequence[Measured]) -> pd.DataFrame:
    """Returns doses.csv's rows: every measure of every checkpoint."""
    rows: list[dict[str, object]] = []
    for block in scores.blocks:
        for each in measured:
            for arm, value in zip(each.arms, each.values, strict=True) if each.task == block.task else ():
                if arm in block.arms:
                    rows.append(
                        {
                            "checkpoint": arm.name,
                            "task": block.task,
                            "rows": block.rows,
                            "matching": block.matching,
                            "method": arm.method,
                            "family": arm.family,
                            "train_seed": arm.train_seed,
                            "trainable_parameters": arm.trainable_parameters,
                            "trainable_share": arm.trainable_share,
                            "testset": each.testset,
                            "attack": each.attack,
                            "measure": each.measure,
                            "n": each.n,
                            "value": float(value),
                            "unit": each.unit,
                        }
                    )
    return arrange_study(StudyTable.DOSES, rows)
