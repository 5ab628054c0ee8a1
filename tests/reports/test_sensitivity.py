from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, wilcoxon

from robustness.reports.endpoints import find_disagreements
from robustness.reports.sensitivity import build_layers, build_probe_differences, build_sensitivity
from robustness.runs.measurements import COLUMNS
from robustness.stats.medians import median_interval, signed_rank_p

ARMS = ("full", "lora")
RECORD: Any = SimpleNamespace(
    seed=0,
    pairs=[SimpleNamespace(name="pair", reference="full", candidate="lora")],
    find_checkpoint=lambda name: SimpleNamespace(adaptation=name, task="sst2"),
)


def rows(values: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    """Readings of examples 0, 1, ... of both arms."""
    blank = dict.fromkeys(COLUMNS) | {
        "testset": "t", "probe": "p", "space": "input", "quantity": "q", "unit": "1", "direction": "robust",
        "aggregate": "median", "scale_free": 1, "target": "f", "kind": "upper", "status": "ok", "scope": "content",
        "forwards": 1, "backwards": 2, "seconds": 0.5, "reason": "",
    }  # fmt: skip
    return pd.DataFrame(
        [
            blank | {"checkpoint": arm, "example_id": str(n), "group_id": str(n), "value": value} | columns
            for arm in ARMS
            for n, value in enumerate(values[arm])
        ]
    )


def test_a_median_is_compared_by_the_paired_log_ratio() -> None:
    rng = np.random.default_rng(0)
    full, peft = np.exp(rng.normal(size=40)), np.exp(rng.normal(size=40))

    row = build_probe_differences(rows({"full": list(full), "lora": list(peft)}), RECORD).iloc[0]

    logs = np.log(full / peft)
    assert row["comparison"] == "log-ratio" and row["n"] == 40
    assert row["difference"] == pytest.approx(np.median(logs))
    assert row["p_value"] == pytest.approx(wilcoxon(logs).pvalue)
    assert row["low"] <= row["difference"] <= row["high"]


def test_swapping_the_arms_turns_the_sign_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    full, peft = list(np.exp(rng.normal(0.3, 1, size=25))), list(np.exp(rng.normal(size=25)))

    ours = build_probe_differences(rows({"full": full, "lora": peft}), RECORD).iloc[0]
    swapped = build_probe_differences(rows({"full": peft, "lora": full}), RECORD).iloc[0]

    assert (ours["difference"], ours["low"], ours["high"]) == pytest.approx(
        (-swapped["difference"], -swapped["high"], -swapped["low"])
    )
    assert ours["p_value"] == pytest.approx(swapped["p_value"])


def test_above_zero_peft_is_more_fragile_whatever_a_large_value_means() -> None:
    values = {"full": [2.0, 3.0, 4.0], "lora": [1.0, 1.0, 1.0]}

    signs = {
        direction: build_probe_differences(rows(values, direction=direction), RECORD)["difference"].item() > 0
        for direction in ("robust", "fragile")
    }

    assert signs == {"robust": True, "fragile": False}


def test_distances_of_zero_are_left_out_by_rule_and_counted() -> None:
    row = build_probe_differences(rows({"full": [0.0, 1.0, 2.0], "lora": [1.0, 0.5, 1.0]}), RECORD).iloc[0]

    assert (row["n"], row["n_dropped"]) == (2, 1)
    assert row["difference"] == pytest.approx(np.log(2))


def test_outcomes_are_compared_by_mcnemar() -> None:
    values = {"full": [1.0] * 9 + [0.0], "lora": [0.0] * 9 + [0.0]}

    row = build_probe_differences(rows(values, aggregate="mean"), RECORD).iloc[0]

    assert row["test"] == "mcnemar-exact" and row["p_value"] == pytest.approx(2 / 2**9)
    assert row["difference"] == pytest.approx(0.9)


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


def test_few_values_have_no_interval() -> None:
    row = build_sensitivity(rows({"full": [1.0, 2.0], "lora": [1.0, 3.0]}), RECORD).iloc[0]

    assert row["value"] == 1.5 and pd.isna(row["low"]) and pd.isna(row["high"])
    assert (row["forwards"], row["backwards"], row["seconds"]) == (2, 4, 0.5)


def test_a_cell_takes_its_worst_status_and_counts_its_errors() -> None:
    frame = rows({"full": [1.0, 2.0, 3.0], "lora": [1.0, 2.0, 3.0]})
    frame.loc[0, ["status", "reason"]] = ["not-converged", "voided"]
    frame.loc[1, ["status", "reason", "value"]] = ["errored", "too long", None]

    first, second = build_sensitivity(frame, RECORD).to_dict("records")

    assert (first["status"], first["n"], first["n_errored"], first["reason"]) == ("not-converged", 2, 1, "voided")
    assert (second["status"], second["n"], second["n_errored"]) == ("ok", 3, 0)


def test_layers_are_aggregated_over_examples() -> None:
    frame = rows({"full": [1.0, 2.0, 9.0], "lora": [4.0, 5.0, 6.0]}, layer=3, module="encoder.layer.3")

    layers = build_layers(frame)

    assert layers[["checkpoint", "layer", "value", "n"]].to_numpy().tolist() == [
        ["full", 3, 2.0, 3],
        ["lora", 3, 5.0, 3],
    ]
    assert build_sensitivity(frame, RECORD).empty


def distances(full: float, peft: float, probe: str, quantity: str, direction: str) -> pd.DataFrame:
    spread = np.linspace(0.9, 1.1, 12)
    values = {"full": list(full * spread), "lora": list(peft * spread[::-1])}
    return rows(values, probe=probe, quantity=quantity, direction=direction, norm="l2")


def test_gradients_three_times_larger_beside_equal_distances_are_flagged() -> None:
    gradient = distances(1.0, 3.0, "margin-gradient", "margin-gradient", "fragile")
    equal = distances(1.0, 1.0, "adversarial-distance", "relative-distance", "robust")
    smaller = distances(1.0, 0.3, "adversarial-distance", "relative-distance", "robust")

    flagged = list(find_disagreements(build_probe_differences(pd.concat([gradient, equal]), RECORD)))
    agreed = list(find_disagreements(build_probe_differences(pd.concat([gradient, smaller]), RECORD)))

    assert len(flagged) == 1 and "margin-gradient shows that PEFT is more fragile" in flagged[0]
    assert "no difference" in flagged[0]
    assert agreed == []
