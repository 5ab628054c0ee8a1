"""transfer.csv: how often what broke one arm also breaks its partner."""

from __future__ import annotations

import pandas as pd

from robustness.reports.columns import Table, arrange
from robustness.stats import wilson_interval

CELL = ["source", "target", "testset", "attack"]


def build_transfer(replays: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Returns transfer.csv's rows.

    `n` counts the source's adversarial texts whose clean form the target gets right; `transfer_rate` is the share of
    them that the target gets wrong (arXiv 1605.07277's transferability, on texts found by attacking the source).
    """
    clean = examples[["checkpoint", "testset", "attack", "example_id", "label", "clean_prediction"]]
    joined = replays.merge(
        clean.rename(columns={"checkpoint": "target"}), on=["target", "testset", "attack", "example_id"]
    )
    eligible = joined[joined["clean_prediction"] == joined["label"]]
    rows = []
    for cell, part in eligible.groupby(CELL, sort=False):
        fooled = int((part["prediction"] != part["label"]).sum())
        interval = wilson_interval(fooled, len(part))
        rows.append(
            dict(zip(CELL, cell, strict=True))
            | {"n": len(part), "transfer_rate": fooled / len(part), "low": interval.low, "high": interval.high}
        )
    return arrange(Table.TRANSFER, rows)
