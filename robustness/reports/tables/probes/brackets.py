"""brackets.csv: a lower beside an upper bound of one number, wherever a run has both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from robustness.errors import ProbeError
from robustness.reports.tables.columns import Table, arrange
from robustness.reports.tables.probes.sensitivity import PLACE, READABLE
from robustness.runs.storage.record import RunRecord
from robustness.sensitivity.measurement import Bracket, Kind, Measurement, Quantity, Target

SAME = ["checkpoint", "testset", "example_id", "group_id", *PLACE, "target", "norm", "unit"]
"""What both sides share: those of another function, norm or unit bound nothing together."""
SIDE = ["probe", "quantity", "kind", "value", "radius", "alpha", "scope"]
"""What each side has of its own."""
BOTH_SIDES = (Kind.EXACT, Kind.CERT_DET, Kind.CERT_PROB)
"""Kinds of bounds from below of some quantities, and from above of others: the relation tells."""
FAULT = "a fault of this program or of the model's arithmetic, and no finding; please report it"


class BracketStatus(StrEnum):
    """What a bracket says."""

    OK = "ok"
    VACUOUS = "vacuous"
    """The upper bound is more than a thousand times the lower one."""
    VIOLATED = "violated"
    """The lower bound exceeds the upper one: one of them is wrong."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Two quantities of which one bounds from below what the other bounds from above."""

    of: str
    lower: str
    upper: str
    same_scope: bool = True
    """Otherwise the two differ in which tokens may move, by their definition."""
    is_positive: bool = True
    """Whether upper over lower says how tight it is: not where values may be negative."""


DISTANCE, SLOPE = "distance to the nearest wrong answer", "largest slope of the margin in the ball"
RELATIONS = (
    Relation(DISTANCE, "certified-radius-local", "relative-distance"),
    Relation(DISTANCE, "layer-product-radius", "relative-distance"),
    Relation(SLOPE, "margin-gradient", "lipschitz-upper"),
    Relation(SLOPE, "margin-lipschitz-lower", "lipschitz-upper"),
    Relation("slope of the margin at the example", "margin-gradient", "layer-product"),
    Relation("change of a plain network by the update", "capacity-change", "capacity-bound"),
    Relation("margin", "worst-margin-of-one-substitution", "margin", same_scope=False, is_positive=False),
    Relation("growth of a spectral norm", "log-spectral-growth", "log-spectral-growth-weyl", is_positive=False),
)
"""A smoothed classifier's certificate beside an attack's find is none: it is of another function."""


def build_brackets(measurements: pd.DataFrame) -> pd.DataFrame:
    """Returns brackets.csv's rows: both bounds on one example, or one layer, with upper over lower.

    Args:
        measurements: the run's readings.
    """
    read = measurements[measurements["value"].notna() & measurements["status"].isin(READABLE)]
    rows = [_row(relation, pair) for relation in RELATIONS for pair in _pairs(read, relation)]
    table = arrange(Table.BRACKETS, rows)
    return table.assign(layer=table["layer"].astype("Int64"))


def find_violations(brackets: pd.DataFrame, record: RunRecord) -> tuple[str, ...]:
    """Returns a sentence for each checkpoint and relation that a lower bound above an upper one breaks."""
    broken = brackets[brackets["status"] == BracketStatus.VIOLATED]
    sentences = []
    for checkpoint in record.checkpoints:
        for (testset, of), rows in broken[broken["checkpoint"] == checkpoint.name].groupby(
            ["testset", "of"], sort=False, dropna=False
        ):
            first = rows.iloc[0]
            where = f"example {first['example_id']}" if pd.notna(first["example_id"]) else str(first["module"])
            more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
            what = f"{checkpoint.name} | {testset or 'weights'} | {of}, {where}{more}"
            sentences.append(f"{what}: {first['reason']}; {FAULT}")
    return tuple(sentences)


def _pairs(read: pd.DataFrame, relation: Relation) -> Iterator[dict[Any, Any]]:
    """Lower and upper rows of the same place; a lower bound in a ball is one in every larger ball as well."""
    lower, upper = (
        read.loc[(read["quantity"] == quantity) & read["kind"].isin(kinds), [*SAME, *SIDE]]
        for quantity, kinds in (
            (relation.lower, (Kind.LOWER, *BOTH_SIDES)),
            (relation.upper, (Kind.UPPER, *BOTH_SIDES)),
        )
    )
    joined = lower.merge(upper, on=SAME, suffixes=("_lower", "_upper"))
    if relation.same_scope:
        joined = joined[joined["scope_lower"] == joined["scope_upper"]]
    outside = joined["radius_lower"].astype(float) > joined["radius_upper"].astype(float)  # false where one has none
    yield from joined[~outside].to_dict("records")


def _row(relation: Relation, pair: Mapping[Any, Any]) -> dict[str, object]:
    lower, upper = (_measurement(pair, side) for side in ("lower", "upper"))
    status, reason = BracketStatus.OK, None
    try:
        bracket = Bracket(lower, upper)
    except ProbeError as error:
        status, reason = BracketStatus.VIOLATED, str(error)
    else:
        if relation.is_positive and bracket.is_vacuous:
            status = BracketStatus.VACUOUS
    assert lower.value is not None and upper.value is not None, "rows without a value were left out"
    has_ratio = relation.is_positive and lower.value > 0
    return {name: pair[name] for name in SAME} | {
        "of": relation.of,
        "lower": relation.lower,
        "upper": relation.upper,
        "lower_kind": str(lower.kind),
        "upper_kind": str(upper.kind),
        "lower_value": lower.value,
        "upper_value": upper.value,
        "ratio": upper.value / lower.value if has_ratio else None,
        "scope": pair["scope_upper"],
        "radius": pair["radius_upper"],
        "alpha": (lower.alpha or 0.0) + (upper.alpha or 0.0) or None,
        "status": str(status),
        "reason": reason,
    }


def _measurement(pair: Mapping[Any, Any], side: str) -> Measurement:
    quantity = Quantity(str(pair[f"quantity_{side}"]), str(pair["unit"]))
    alpha = pair[f"alpha_{side}"]
    return Measurement(
        quantity,
        float(pair[f"value_{side}"]),
        Kind(pair[f"kind_{side}"]),
        Target(pair["target"]),
        None if pd.isna(pair["norm"]) else str(pair["norm"]),
        alpha=None if pd.isna(alpha) else float(alpha),
    )
