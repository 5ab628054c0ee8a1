"""Ready-made rows of which some originals are unknown: what may be called fragile, on planted answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.fragility import build_fragility
from robustness.reports.tables.pairs import build_pairs
from robustness.runs.storage.record import RunRecord

N, N_KNOWN, N_NEGATIVE = 420, 320, 20
"""All examples; those whose original both arms answer rightly (of others it is unknown); those of another label."""


@pytest.fixture(scope="module")
def record(run_writer: Any) -> RunRecord:
    made: RunRecord = run_writer.record(seeds=3, n=N)
    return made.model_copy(update={"testsets": made.testsets[1:], "attacks": ()})


def rows(record: RunRecord, *, lost: int, won: int, lost_unknown: int, mirrored: bool) -> pd.DataFrame:
    """The candidate loses so many known examples, wins so many, and loses so many unknown ones."""
    numbers = np.arange(-N_NEGATIVE, N - N_NEGATIVE)
    wrong = {
        "lora": ((numbers >= 0) & (numbers < lost)) | (numbers >= N - N_NEGATIVE - lost_unknown),
        "full": (lost <= numbers) & (numbers < lost + won),
    }
    if mirrored:
        wrong = {"full": wrong["lora"], "lora": wrong["full"]}
    frames = [
        pd.DataFrame(
            {
                "checkpoint": arm.name,
                "testset": "adversarial-set",
                "attack": "none",
                "example_id": [f"e{number}" for number in numbers],
                "group_id": [f"e{number}" for number in numbers],
                "gold": np.where(numbers < 0, "negative", "positive"),
                "clean_correct": np.where(numbers < N_KNOWN - N_NEGATIVE, 1.0, np.nan),
                "correct": np.where(wrong[arm.adaptation], 0.0, 1.0),
                "status": np.where(wrong[arm.adaptation], "succeeded", "failed"),
                "original_text": "a text",
            }
        )
        for arm in record.checkpoints
    ]
    return pd.concat(frames, ignore_index=True).reindex(columns=[column.name for column in COLUMNS[Table.EXAMPLES]])


def verdicts(record: RunRecord, **planted: Any) -> set[tuple[str, str, str | None]]:
    """Of every pair, of the method over its seeds, and of one label's rows."""
    examples = rows(record, **planted)
    pairs = build_pairs(examples, record)
    planned = pairs[pairs["family"] == "planned"].assign(
        what=lambda table: table["n_seeds"].map({1: "pair", 3: "method"})
    )
    places = build_fragility(examples, pairs, record)
    places = places[places["what"].str.endswith("| positive")].assign(what="place")
    found = pd.concat([planned, places])
    assert (found["p_adjusted"] < 1e-3).all()
    return set(zip(found["what"], found["verdict"], found["reason"].fillna(""), strict=True))


@pytest.mark.parametrize("mirrored", [False, True], ids=["candidate", "reference"])
def test_losses_among_rows_with_unknown_originals_alone_are_no_fragility(record: RunRecord, mirrored: bool) -> None:
    """The known rows are a draw, 30 to 30: the 100 other losses may all have been wrong before the attack."""
    found = verdicts(record, lost=30, won=30, lost_unknown=100, mirrored=mirrored)

    assert found == {(what, "less-accurate", "clean-unknown") for what in ("pair", "method", "place")}


@pytest.mark.parametrize(("mirrored", "fragile"), [(False, "peft-more-fragile"), (True, "full-more-fragile")])
def test_known_rows_that_show_the_difference_by_themselves_make_it_fragility(
    record: RunRecord, mirrored: bool, fragile: str
) -> None:
    found = verdicts(record, lost=90, won=10, lost_unknown=60, mirrored=mirrored)

    assert found == {(what, fragile, "") for what in ("pair", "method", "place")}
