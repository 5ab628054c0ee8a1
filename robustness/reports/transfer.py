"""transfer.csv: how often what broke one arm also breaks its partner, or the untuned base."""

from __future__ import annotations

import pandas as pd

from robustness.engine.evaluation import NO_ATTACK
from robustness.reports.columns import Table, arrange
from robustness.runs.store import UNTUNED
from robustness.stats import wilson_interval

CELL = ["source", "target", "testset", "attack"]


def build_transfer(replays: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Returns transfer.csv's rows.

    `n` counts the source's adversarial texts whose clean form the target gets right; `transfer_rate` is the share of
    them that the target gets wrong (arXiv 1605.07277's transferability, on texts found by attacking the source).
    The target `untuned base` is the base under the source's own head.
    """
    judged = examples[["checkpoint", "testset", "attack", "example_id", "label", "clean_prediction"]]
    to_arms = replays.merge(
        judged.rename(columns={"checkpoint": "target"}), on=["target", "testset", "attack", "example_id"]
    )
    joined = pd.concat([to_arms, _to_base(replays, judged)], ignore_index=True)
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


def _to_base(replays: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Its answers to clean texts are replays too, of no attack."""
    on_base = replays[replays["target"] == UNTUNED]
    is_clean = on_base["attack"] == NO_ATTACK
    clean = on_base[is_clean].rename(columns={"prediction": "clean_prediction"})
    labels = judged.drop(columns="clean_prediction").rename(columns={"checkpoint": "source"})
    return (
        on_base[~is_clean]
        .merge(labels, on=["source", "testset", "attack", "example_id"])
        .merge(clean[["source", "testset", "example_id", "clean_prediction"]], on=["source", "testset", "example_id"])
    )
