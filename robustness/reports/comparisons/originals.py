"""Test sets whose benign originals have other labels than those they would be graded by."""

from __future__ import annotations

import pandas as pd

from robustness.engine.outcome import Status
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord
from robustness.stats.plausibility import OriginalsTally, are_implausible


def implausible_originals(examples: pd.DataFrame, record: RunRecord) -> frozenset[str]:
    """Returns the test sets on which no accuracy before the change, and no drop from it, may be reported.

    Only originals whose own gold no file gives are looked at, and no questions, whose answers stay what they are.

    Args:
        examples: rows of examples.csv, of attacks too.
        record: of the run.
    """
    labelled = [testset.name for testset in record.testsets if testset.labels]
    is_static = (examples["attack"] == NO_ATTACK) & (examples["status"] != Status.ERRORED)
    known = examples["clean_correct"].notna() & examples["original_gold"].isna()
    rows = examples.loc[is_static & known & examples["testset"].isin(labelled)]
    tallies: dict[str, list[OriginalsTally]] = {}
    for (testset, _), part in rows.groupby(["testset", "checkpoint"], sort=False):
        right = int(part["clean_correct"].astype(bool).sum())
        tally = OriginalsTally(right, int(part["gold"].value_counts().max()), len(part))
        tallies.setdefault(str(testset), []).append(tally)
    return frozenset(testset for testset, found in tallies.items() if are_implausible(found))
