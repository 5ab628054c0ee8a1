"""Why no text of a run breaks one arm of a pair while the other withstands it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from robustness.engine.outcome import Status
from robustness.reports.tables.examples import keeps_prediction
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import PairRecord

COLUMNS = ["checkpoint", "testset", "attack", "example_id", "status"]
"""Of examples.csv: copying all of them for every pair costs seconds."""


def explain_none(pairs: Sequence[PairRecord], examples: pd.DataFrame, replays: pd.DataFrame) -> str:
    """Returns why no text of any pair breaks just one arm: nothing broke, or all that did broke both arms."""
    arms = {name for pair in pairs for name in (pair.reference, pair.candidate)}
    attacked = examples[examples["checkpoint"].isin(arms) & (examples["attack"] != NO_ATTACK)]
    if attacked.empty:
        return "Nothing was attacked."
    mine = attacked.loc[~keeps_prediction(attacked), COLUMNS]
    if mine.empty:
        return "Every attack was to keep the answer, so none could break an arm."
    broken = int((mine["status"] == Status.SUCCEEDED).sum())
    if not broken:
        return "No attack broke either arm."
    asked = len(_asked(mine, replays, pairs))
    if asked < broken:
        return (
            f"Attacks found {broken:,} texts; of the {asked:,} asked of the other arm, it gets every one wrong too."
        )
    return f"The other arm gets every one of the {broken:,} texts that attacks found wrong too."


def _asked(broken: pd.DataFrame, replays: pd.DataFrame, pairs: Sequence[PairRecord]) -> pd.DataFrame:
    """The texts found on one arm that its partner was asked about."""
    partners = {(pair.reference, pair.candidate) for pair in pairs}
    partners |= {(candidate, reference) for reference, candidate in partners}
    replays = replays[replays["correct"].notna()]
    within = [key in partners for key in zip(replays["source"], replays["target"], strict=True)]
    keys = ["testset", "attack", "example_id"]
    found = broken[broken["status"] == Status.SUCCEEDED].rename(columns={"checkpoint": "source"})
    return found.merge(replays.loc[within, ["source", *keys]], on=["source", *keys])
