"""properties.csv: which property of an update goes with robustness, over the adapters of a study; exploratory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import rankdata

from robustness.reports.studies.columns import StudyTable, arrange_study
from robustness.reports.studies.folder import Study, StudyCheckpoint
from robustness.reports.studies.scores import POOLED, Block, StudyScores
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_columns
from robustness.stats import Interval, rank_correlation

PROPERTIES = {
    "update-effective-rank": "effective rank",
    "update-relative-norm": "relative norm",
    "intruders": "intruder dimensions",
    "reach-adversarial": "reachability",
}
"""Quantities of probes, by what readers call them."""
FEWEST = 6
"""Checkpoints that a rank correlation needs."""


@dataclass(frozen=True, slots=True)
class PropertyCorrelation:
    """How a property goes with pooled robust accuracy over adapters of one block."""

    block: Block
    name: str
    kind: str
    """`exact`, a bound or an estimate."""
    n: int
    n_methods: int
    correlation: float
    interval: Interval
    """As if checkpoints were independent, which those of one method are not."""
    within_methods: float
    """Between ranks less the mean rank of the method."""


def correlate_properties(study: Study, scores: StudyScores) -> list[PropertyCorrelation]:
    """Returns the correlation of every property that at least six adapters of a block have."""
    found = []
    for block in scores.blocks:
        cell = next((each for each in scores.of(block) if each.testset == POOLED), None)
        if cell is None:
            continue
        robust = dict(zip(cell.arms, cell.robust.mean(axis=1).tolist(), strict=True))
        for name, kind, values in _read_properties(study, block):
            arms = [arm for arm in values if arm in robust and arm.is_peft]
            if len(arms) >= FEWEST:
                found.append(_correlate(block, name, kind, [values[arm] for arm in arms], arms, robust))
    return found


def _correlate(
    block: Block,
    name: str,
    kind: str,
    values: Sequence[float],
    arms: Sequence[StudyCheckpoint],
    robust: Mapping[StudyCheckpoint, float],
) -> PropertyCorrelation:
    methods, scores = [arm.method for arm in arms], [robust[arm] for arm in arms]
    correlation = rank_correlation(values, scores)
    return PropertyCorrelation(
        block=block,
        name=PROPERTIES[name],
        kind=kind,
        n=len(arms),
        n_methods=len(set(methods)),
        correlation=correlation,
        interval=rank_interval(correlation, len(arms)),
        within_methods=_within(values, scores, methods),
    )


def rank_interval(correlation: float, n: int, *, level: float = 0.95) -> Interval:
    r"""Returns the interval of Spearman's correlation on Fisher's scale, with variance $(1 + r^2 / 2) / (n - 3)$.

    Source: Bonett and Wright, Psychometrika 65 (2000), 23-28.

    >>> interval = rank_interval(0.5, 30)
    >>> round(interval.low, 2), round(interval.high, 2)
    (0.15, 0.74)
    """
    if math.isnan(correlation) or n < 4 or abs(correlation) >= 1:
        return Interval(math.nan, math.nan)
    width = float(ndtri((1 + level) / 2)) * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    center = math.atanh(correlation)
    return Interval(math.tanh(center - width), math.tanh(center + width))


def _within(values: Sequence[float], scores: Sequence[float], methods: Sequence[str]) -> float:
    """Pearson's correlation of ranks less the mean rank of the method; nan where nothing varies."""
    codes = np.unique(methods, return_inverse=True)[1]
    left = []
    for column in (values, scores):
        ranks = rankdata(column)
        left.append(ranks - (np.bincount(codes, weights=ranks) / np.bincount(codes))[codes])
    spread = math.sqrt(float(left[0] @ left[0]) * float(left[1] @ left[1]))
    return float(left[0] @ left[1]) / spread if spread > 1e-9 else math.nan


def _read_properties(study: Study, block: Block) -> Iterator[tuple[str, str, dict[StudyCheckpoint, float]]]:
    """Each property of each arm: the mean over the test sets that it was measured on."""
    frames = []
    for run in study.runs:
        path = run.folder / f"{Table.SENSITIVITY}.csv"
        if run.task != block.task or run.matching is not block.matching or not path.is_file():
            continue
        rows = read_columns(Table.SENSITIVITY, path, ("checkpoint", "quantity", "kind", "norm", "scope", "value"))
        rows = rows.astype({"checkpoint": object, "quantity": object, "scope": object})
        rows = rows[rows["quantity"].isin(list(PROPERTIES)) & rows["value"].notna()]
        arms = {each.name: study.find_checkpoint(each.name, run) for each in run.record.checkpoints}
        frames.append(rows.assign(arm=[arms.get(name) for name in rows["checkpoint"]]))
    every = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["arm", "quantity"])
    every = every[np.array([arm in block.arms for arm in every["arm"]], dtype=bool)]
    for name in PROPERTIES:
        mine = every[every["quantity"] == name]
        if len(mine):
            scope = mine["scope"].iloc[0]  # a quantity of several scopes is several quantities
            mine = mine[(mine["scope"] == scope) | (mine["scope"].isna() & pd.isna(scope))]
            values = mine.groupby("arm", sort=False)["value"].mean().to_dict()
            yield name, str(mine["kind"].iloc[0]), values


def build_properties(found: Sequence[PropertyCorrelation]) -> pd.DataFrame:
    """Returns properties.csv's rows."""
    rows: list[dict[str, object]] = [
        {
            "task": each.block.task,
            "rows": each.block.rows,
            "matching": each.block.matching,
            "property": each.name,
            "kind": each.kind,
            "n": each.n,
            "n_methods": each.n_methods,
            "rank_correlation": each.correlation,
            "low": each.interval.low,
            "high": each.interval.high,
            "within_methods": each.within_methods,
        }
        for each in found
    ]
    return arrange_study(StudyTable.PROPERTIES, rows)
