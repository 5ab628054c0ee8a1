"""Which numbers of probes are drawn, and what their panels are called."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustness.reports.comparisons.claims import find_exclusion
from robustness.reports.tables.probes.predictions import PER_LENGTH


def find_telling(probed: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows that have a spread of their own, first the rows that may support a claim.

    Outcomes have none, and a number per token norm has that of the number itself.

    Args:
        probed: sensitivity_examples.csv's rows that have a value.
    """
    spread = probed.groupby(["probe", "quantity"])["value"].transform(lambda values: not values.isin((0, 1)).all())
    kept = probed[spread.astype(bool) & ~probed["quantity"].str.endswith(PER_LENGTH)]
    excluded = [find_exclusion(row) is not None for row in kept[["kind", "quantity", "probe"]].to_dict("records")]
    return kept.iloc[np.argsort(excluded, kind="stable")]


def name_panels(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows, their quantity with norm, radius and noise where it has several of them: no shared scale."""
    names = rows["quantity"].astype(str)
    for label, word in (("norm", ""), ("radius", "radius "), ("sigma", "sigma ")):
        if label in rows:
            several = rows.groupby(["probe", "quantity"])[label].transform("nunique") > 1
            names = names.where(~several, names + " " + word + rows[label].map(_text).astype(str))
    return rows.assign(quantity=names)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
