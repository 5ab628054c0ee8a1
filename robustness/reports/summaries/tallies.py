"""Which rows of pairs.csv an answer counts, and which stand beside it."""

from __future__ import annotations

import pandas as pd

from robustness.reports.comparisons.comparison import Family


def of_family(rows: pd.DataFrame, family: Family) -> pd.DataFrame:
    """Returns the rows of pairs.csv that belong to a family."""
    return rows[rows["family"] == family]


def controls(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that are in no family: clean sets, `identity`, baselines; over all examples, on average."""
    headline = rows["population"].isin(["all", "altered"]) & (rows["aggregation"] == "mean")
    in_none = rows["family"].isna() | (rows["family"] == Family.CONTROL)
    return rows[in_none & headline]
