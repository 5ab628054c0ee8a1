from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kstest

from robustness.reports.tables.probes.sensitivity import (
    build_layers,
    build_sensitivity,
    build_sensitivity_examples,
    find_errored,
)
from robustness.stats.medians import median_interval, signed_rank_p


def test_null_pairs_have_uniform_p_values() -> None:
    """Two arms that differ by chance alone: 300 pairs of 30 examples, by Kolmogorov and Smirnov."""
    rng = np.random.default_rng(2)
    p_values = [signed_rank_p(rng.normal(size=30)) for _ in range(300)]

    assert kstest(p_values, "uniform").pvalue > 0.01


def test_the_median_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    samples = np.exp(rng.normal(size=(2000, 21)))  # of median 1
    covered = sum((i := median_interval(sample)).low <= 1 <= i.high for sample in samples)

    assert 0.95 <= covered / 2000 <= 0.99


def test_few_values_have_no_interval(measured: Any) -> None:
    row = build_sensitivity(measured.rows({"full": [1.0, 2.0], "lora": [1.0, 3.0]}), measured.record).iloc[0]

    assert row["value"] == 1.5 and pd.isna(row["low"]) and pd.isna(row["high"])
    assert (row["forwards"], row["backwards"], row["seconds"]) == (2, 4, 0.5)


def test_a_cell_takes_its_worst_status_and_counts_its_errors(measured: Any) -> None:
    frame = measured.rows({"full": [1.0, 2.0, 3.0], "lora": [1.0, 2.0, 3.0]})
    frame.loc[0, ["status", "reason"]] = ["not-converged", "voided"]
    frame.loc[1, ["status", "reason", "value"]] = ["errored", "too long", None]

    first, second = build_sensitivity(frame, measured.record).to_dict("records")

    assert (first["status"], first["n"], first["n_errored"]) == ("not-converged", 2, 1)
    assert first["reason"] == "voided; errored: too long"
    assert (second["status"], second["n"], second["n_errored"]) == ("ok", 3, 0)


def test_an_example_that_errors_counts_once_however_many_quantities_its_probe_has(measured: Any) -> None:
    values: dict[str, list[float]] = {"full": [1.0, 2.0, 3.0], "lora": [1.0, 2.0, 3.0]}
    frame = pd.concat([measured.rows(values), measured.rows(values).assign(quantity="another")], ignore_index=True)
    frame.loc[[0, 6], ["status", "reason", "value"]] = ["errored", "too long", None]  # one example, both quantities
    frame.loc[frame["checkpoint"] == "lora", ["status", "reason", "value"]] = ["errored", "out of memory", None]
    whole = measured.rows({"full": [1.0], "lora": [1.0]}).assign(probe="structure", testset="", example_id=None)
    whole.loc[0, ["status", "reason", "value"]] = ["errored", "no weights", None]
    frame = pd.concat([frame, whole], ignore_index=True)

    found = find_errored(build_sensitivity(frame, measured.record), build_sensitivity_examples(frame))

    assert sorted(found["reason"]) == ["no weights", *["out of memory"] * 3, "too long"]
    assert found["probe"].value_counts()["structure"] == 1


def test_layers_are_aggregated_over_examples(measured: Any) -> None:
    frame = measured.rows({"full": [1.0, 2.0, 9.0], "lora": [4.0, 5.0, 6.0]}, layer=3, module="encoder.layer.3")

    layers = build_layers(frame)

    assert layers[["checkpoint", "layer", "value", "n"]].to_numpy().tolist() == [
        ["full", 3, 2.0, 3],
        ["lora", 3, 5.0, 3],
    ]
    assert build_sensitivity(frame, measured.record).empty
