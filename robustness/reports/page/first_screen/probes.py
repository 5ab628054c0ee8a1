"""The first screen of a run without a comparison under attack: which arm its probes call more sensitive."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from robustness.reports.comparisons.claims import Direction
from robustness.reports.page.first_screen.forest import Forest, ForestRow, Scale, draw_axis, draw_strip
from robustness.reports.summaries.arms import Arms
from robustness.reports.summaries.headline import Headline
from robustness.reports.summaries.probes import spell_direction
from robustness.reports.summaries.wording import capital
from robustness.reports.tables.probes.predictions import PER_LENGTH
from robustness.reports.tables.probes.sensitivity_pairs import RATIO
from robustness.reports.visible import visible

MAX_ROWS = 14
NO_VERDICT = "Nothing was attacked, so there is no verdict on fragility."
NOT_COMPARED = "No attack could be compared, so there is no verdict on fragility."
ROBUST = "robust"
"""What larger values mean, of distances and radii."""
WIDEST = 10.0
"""Doublings that the scale has room for."""
ONE_SEARCH = ["pair", "testset", "probe", "norm", "radius", "sigma", "scope"]
"""Numbers of one search are one distance in several units: the first of them stands for all."""
_KINDS = {
    Direction.CANDIDATE: ("candidate", "cand"),
    Direction.REFERENCE: ("reference", "ref"),
    Direction.NO_DIFFERENCE: ("open", ""),
}


def claims_of(compared: pd.DataFrame) -> pd.DataFrame:
    """Returns the ratios of all pairs that may support a claim, one of each search, those with a direction first."""
    mine = compared[(compared["comparison"] == RATIO) & compared["layer"].isna() & compared["module"].isna()]
    mine = mine[mine["low"].notna() & (mine["direction"] != Direction.NEUTRAL)]
    mine = mine[~mine["quantity"].astype(str).str.endswith(PER_LENGTH)]
    mine = mine[(mine[["ratio", "low", "high"]].astype(float) > 0).all(axis=1)]
    mine = mine.drop_duplicates(ONE_SEARCH)
    order = (mine["direction"] == Direction.NO_DIFFERENCE).argsort(kind="stable")
    return mine.iloc[order]


def probe_headline(claims: pd.DataFrame, arms: Arms, *, is_attacked: bool) -> Headline:
    """Returns which arm how many of the numbers call more sensitive; no verdict.

    Args:
        claims: What `claims_of` returns.
        arms: Of the pairs.
        is_attacked: Whether the run has attacks, whose outcomes then allow no comparison.
    """
    counts = claims["direction"].value_counts()
    candidate, reference = (int(counts.get(each, 0)) for each in (Direction.CANDIDATE, Direction.REFERENCE))
    n = len(claims)
    measured = f"{n} measurement{'' if n == 1 else 's'}"
    pairs = claims["pair"].nunique()
    measured += f" on {pairs} pairs" if pairs > 1 else ""
    if candidate and reference:
        words = (
            f"{arms.candidate.name} is more sensitive by {candidate} and {arms.reference.name} by {reference} of "
            f"{measured}."
        )
    elif candidate or reference:
        more, other = (arms.candidate, arms.reference) if candidate else (arms.reference, arms.candidate)
        words = f"{more.name} is more sensitive than {other.name} by {candidate or reference} of {measured}."
    else:
        words = f"No difference in sensitivity was found in {measured}."
    return Headline(capital(words), NOT_COMPARED if is_attacked else NO_VERDICT)


def make_ratio_forest(claims: pd.DataFrame, arms: Arms) -> Forest:
    """Returns the ratios of both arms on a scale of doublings; to the right the candidate is more sensitive."""
    rows = claims.head(MAX_ROWS).to_dict("records")
    ends = [_oriented(row) for row in rows]
    widest = max(abs(end) for each in ends for end in each)
    scale = Scale(min(WIDEST, 1.1 * max(1.0, widest)))
    step = max(1, math.ceil(scale.reach / 4))
    count = int(0.94 * scale.reach / step)
    axis = draw_axis([step * tick for tick in range(-count, count + 1)], scale, _spell_doublings)
    if claims["pair"].nunique() > 1:
        rows = [row | {"testset": f"{row['pair']}, {row['testset']}"} for row in rows]
    drawn = tuple(_row(row, end, arms, scale) for row, end in zip(rows, ends, strict=True))
    return Forest(
        drawn,
        axis,
        f"{arms.reference.short} more sensitive",
        f"{arms.candidate.short} more sensitive",
        f"to the right {visible(arms.candidate.short)} is more sensitive; numbers are "
        f"{visible(arms.candidate.short)} over {visible(arms.reference.short)}, 95 % interval",
    )


def _oriented(row: dict[Any, Any]) -> tuple[float, float, float]:
    """Lower end, value and upper end in doublings, above 0 where the candidate is more sensitive."""
    low, value, high = (math.log2(float(row[name])) for name in ("low", "ratio", "high"))
    return (-high, -value, -low) if row["larger_values"] == ROBUST else (low, value, high)


def _spell_doublings(tick: float) -> str:
    return "1" if tick == 0 else f"{2 ** abs(tick):g}\u00d7"


def _row(row: dict[Any, Any], ends: tuple[float, float, float], arms: Arms, scale: Scale) -> ForestRow:
    kind, style = _KINDS[Direction(row["direction"])]
    name = str(row["probe"]) if row["probe"] == row["quantity"] else f"{row['probe']}: {row['quantity']}"
    where = [str(row["norm"])] if isinstance(row["norm"], str) else []
    where += [] if pd.isna(row["radius"]) else [f"radius {row['radius']:g}"]
    number = f"{float(row['ratio']):.2g}\u00d7"
    direction = spell_direction(row["direction"], arms.shorts)
    said = f"{visible(name)}: {number} with 95 % interval {row['low']:.2g} to {row['high']:.2g}, n = {int(row['n'])}"
    strip = draw_strip(ends, scale, kind, style, said)
    return ForestRow(
        name=visible(name),
        note=visible(", ".join([str(row["testset"]), *where])),
        is_planned=True,
        strip=strip,
        number=number,
        interval=f"{row['low']:.2g} to {row['high']:.2g}",
        verdict=f"{visible(direction)} more sensitive" if style else "",
        style=style,
    )
