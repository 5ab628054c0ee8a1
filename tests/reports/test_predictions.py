from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustness.reports.tables.predictions import build_predictions
from robustness.reports.tables.sensitivity import build_sensitivity_examples
from robustness.stats import auc


def attacked(broken: list[bool]) -> pd.DataFrame:
    """examples.csv's rows of both arms under one attack."""
    return pd.DataFrame(
        [
            {"checkpoint": arm, "testset": "t", "attack": "swap", "goal": "change-prediction", "example_id": str(i)}
            | {"status": "succeeded" if each else "failed", "queries": 10 + i}
            for arm in ("full", "lora")
            for i, each in enumerate(broken)
        ]
    )


def predict(measured: Any, frames: list[pd.DataFrame], broken: list[bool]) -> pd.DataFrame:
    table = build_predictions(build_sensitivity_examples(pd.concat(frames)), attacked(broken))
    return table[table["checkpoint"] == "full"]


def test_each_norm_radius_and_scope_predicts_by_itself(measured: Any) -> None:
    """Two norms that both part what breaks from what withstands, on scales of their own: pooled, AUC was .75."""
    broken = [True] * 6 + [False] * 6
    low, high = np.linspace(1, 2, 6), np.linspace(3, 4, 6)
    small = [*high, *low]
    frames = [
        measured.rows({arm: scale * np.array(small) for arm in ("full", "lora")}, **labels)
        for scale, labels in (
            (1, {"norm": "l2"}),
            (100, {"norm": "linf"}),
            (1, {"norm": "l2", "radius": 0.5}),
            (100, {"norm": "l2", "radius": 0.5, "scope": "one-token"}),
        )
    ]

    table = predict(measured, frames, broken)

    assert table["auc"].tolist() == [1.0] * 4 and table["n"].tolist() == [12] * 4
    assert table[["norm", "radius", "scope"]].fillna("").to_numpy().tolist() == [
        ["l2", "", "content"],
        ["linf", "", "content"],
        ["l2", 0.5, "content"],
        ["l2", 0.5, "one-token"],
    ]
    pooled = auc([*small, *(100 * np.array(small))], broken * 2).auc
    assert pooled == pytest.approx(0.75)


def test_an_auc_of_one_has_an_interval_of_positive_width(measured: Any) -> None:
    values = [2.0 + i for i in range(5)] + [1.0 - i / 10 for i in range(5)]

    row = predict(measured, [measured.rows({"full": values, "lora": values})], [True] * 5 + [False] * 5).iloc[0]

    assert (row["auc"], row["high"]) == (1.0, 1.0) and 0.5 < row["low"] < 0.75


def test_voided_values_are_left_out_and_counted(measured: Any) -> None:
    """Of the values that may be read the larger ones break; the voided ones would turn it round."""
    values = [2.0, 2.1, 2.2, 2.3, 2.4, 1.0, 1.1, 1.2, 1.3, 1.4, 0.0, 0.0, 9.0, 9.0]
    broken = [True] * 5 + [False] * 5 + [True, True, False, False]
    frame = measured.rows({"full": values, "lora": values})
    void = frame["example_id"].isin([str(i) for i in range(10, 14)])
    frame.loc[void, "status"] = ["not-converged", "vacuous"] * 4

    row = predict(measured, [frame], broken).iloc[0]

    assert (row["n"], row["n_broken"], row["n_left_out"], row["auc"]) == (10, 5, 4, 1.0)


@pytest.mark.parametrize(("n_broken", "n_withstood", "shown"), [(4, 20, False), (20, 4, False), (5, 5, True)])
def test_an_auc_needs_five_examples_on_either_side(
    measured: Any, n_broken: int, n_withstood: int, shown: bool
) -> None:
    values = list(np.random.default_rng(0).normal(size=n_broken + n_withstood))
    frame = measured.rows({"full": values, "lora": values})

    row = predict(measured, [frame], [True] * n_broken + [False] * n_withstood).iloc[0]

    assert (row["n"], row["n_broken"]) == (n_broken + n_withstood, n_broken)
    assert row[["auc", "low", "high"]].notna().tolist() == [shown] * 3
