"""The families of tests that rows of pairs.csv belong to."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pandas as pd


class Family(StrEnum):
    """The column `family` of pairs.csv; controls are in none."""

    PLANNED = "planned"
    """The rows that count: test sets x attacks of one pair, in its primary metric."""
    EFFORT = "effort"
    SECONDARY = "secondary"


def of_family(rows: pd.DataFrame, family: Family) -> pd.DataFrame:
    """Returns the rows of pairs.csv that belong to a family."""
    return rows[rows["family"] == family]


def controls(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that are in no family: clean sets, `identity`, baselines; over all examples, on average."""
    headline = rows["population"].isin(["all", "altered"]) & (rows["aggregation"] == "mean")
    return rows[_is_empty(rows["family"]) & headline]


def _is_empty(column: pd.Series[Any]) -> pd.Series[bool]:
    return column.isna() | (column == "")
