from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, wilcoxon

from robustness.reports.comparisons.claims import EXCLUSIONS, Direction
from robustness.reports.report import write_report
from robustness.reports.summaries.endpoints import find_disagreements
from robustness.reports.summaries.fitting import FittingTable
from robustness.reports.summaries.probes import render_probes
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table
from robustness.reports.tables.probes.sensitivity import build_sensitivity
from robustness.reports.tables.probes.sensitivity_pairs import build_sensitivity_pairs, name_families
from robustness.runs.storage.record import read_record
from robustness.stats import holm, mcnemar_exact

SPREAD = np.linspace(0.9, 1.1, 12)
GRADIENTS = {
    "margin-gradient": "margin-gradient",
    "jacobian-norm": "jacobian-norm",
    "condition-profile": "condition",
    "first-order-radius": "first-order-radius",
}


def arms(full: float, lora: float) -> dict[str, list[float]]:
    """Values around two medians, paired at random."""
    return {"full": list(full * SPREAD), "lora": list(lora * SPREAD[::-1])}


def only(table: pd.DataFrame) -> Any:
    (row,) = table.to_dict("records")
    return row


def test_a_median_is_compared_by_the_paired_ratio_of_candidate_to_reference(measured: Any) -> None:
    rng = np.random.default_rng(0)
    full, lora = np.exp(rng.normal(size=40)), np.exp(rng.normal(0.2, 1, size=40))

    row = only(build_sensitivity_pairs(measured.rows({"full": full, "lora": lora}), measured.record))

    ratios = np.sort(lora / full)
    assert (row["comparison"], row["n"], row["testset"]) == ("ratio", 40, "t")
    assert row["ratio"] == pytest.approx(np.exp(np.median(np.log(ratios))))
    assert (row["low"], row["high"]) == pytest.approx((ratios[13], ratios[26]))  # P(Bin(40, 1/2) <= 13) = .019
    assert row["p_value"] == row["p_adjusted"] == pytest.approx(wilcoxon(np.log(ratios)).pvalue)
    assert pd.isna(row["difference"])
    assert (row["reference_value"], row["candidate_value"]) == pytest.approx((np.median(full), np.median(lora)))


@pytest.mark.parametrize("aggregate", ["median", "mean"])
@pytest.mark.parametrize(("larger_values", "lora"), [("robust", 0.5), ("fragile", 2.0)])
def test_the_candidate_is_more_sensitive_where_it_is_worse_off_whatever_a_large_value_means(
    measured: Any, aggregate: str, larger_values: str, lora: float
) -> None:
    labels = {"direction": larger_values, "aggregate": aggregate}

    row = only(build_sensitivity_pairs(measured.rows(arms(1.0, lora), **labels), measured.record))
    swapped = only(build_sensitivity_pairs(measured.rows(arms(lora, 1.0), **labels), measured.record))

    assert row["direction"] == "candidate-more-sensitive" and row["larger_values"] == larger_values
    assert swapped["direction"] == "reference-more-sensitive"
    if aggregate == "median":
        assert row["ratio"] == pytest.approx(lora, rel=0.1) and pd.isna(row["difference"])
        assert (row["low"] < row["ratio"] < row["high"]) and (row["high"] < 1) == (lora < 1)
        assert (swapped["low"], swapped["high"]) == pytest.approx((1 / row["high"], 1 / row["low"]))
    else:
        assert row["comparison"] == "difference" and pd.isna(row["ratio"])
        assert row["difference"] == pytest.approx(abs(lora - 1.0)) and row["low"] > 0 > swapped["high"]


def test_equal_arms_show_no_difference_and_it_is_not_called_equal(measured: Any) -> None:
    row = only(build_sensitivity_pairs(measured.rows(arms(1.0, 1.0)), measured.record))

    assert row["direction"] == "no-difference-found" and pd.isna(row["reason"])


def gradients(measured: Any) -> pd.DataFrame:
    """Three times as large in LoRA, and sure of it."""
    kinds, norms = ("exact", "exact", "exact", "estimate"), ("l1", "l2", "l2", "l2")
    return pd.concat(
        [
            measured.rows(arms(1.0, 3.0), probe=probe, quantity=quantity, kind=kind, direction="fragile", norm=norm)
            for (probe, quantity), kind, norm in zip(GRADIENTS.items(), kinds, norms, strict=True)
        ]
    )


def test_gradients_are_neutral(measured: Any) -> None:
    table = build_sensitivity_pairs(gradients(measured), measured.record)

    assert len(table) == 4 and (table["ratio"] > 2.5).all() and (table["p_value"] < 0.01).all()
    assert set(table["direction"]) == {"neutral"} and table["p_adjusted"].isna().all()
    assert set(table["reason"]) == {EXCLUSIONS[0].reason, EXCLUSIONS[1].reason}


def test_a_report_keeps_probes_out_of_fragility_csv(run_writer: Any, measured: Any, tmp_path: Path) -> None:
    """In the demo of 0.1.0 the first eleven rows of fragility.csv said `peft-more-fragile` of gradients."""
    folder = run_writer.write(tmp_path / "run", run_writer.record())
    distance = {"probe": "adversarial-distance", "quantity": "relative-distance", "norm": "l2"}
    planted = pd.concat([gradients(measured), measured.rows(arms(1.0, 1.0), **distance)]).assign(testset="clean-set")
    planted["checkpoint"] += "-0"
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection:
        planted.to_sql("measurements", connection, index=False)

    report = write_report(folder)

    fragility = read_table(Table.FRAGILITY, folder / "fragility.csv")
    assert len(fragility) and not fragility["what"].str.contains("|".join(GRADIENTS)).any()
    assert not fragility["where"].isin(["probe", "layer"]).any() and "scale" not in fragility
    table = read_table(Table.SENSITIVITY_PAIRS, folder / "sensitivity_pairs.csv").set_index("quantity")
    assert table["direction"].to_dict() == dict.fromkeys(GRADIENTS.values(), "neutral") | {
        "relative-distance": "no-difference-found"
    }
    families = read_record(folder).statistics.families
    assert families["sensitivity, pair-0"] == ("clean-set | adversarial-distance | relative-distance | l2 | content",)
    assert any("jacobian-norm of LoRA is 3 x that of full" in sentence for sentence in report.disagreements)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"kind": "estimate"}, "an estimate bounds nothing"),
        ({"direction": "neutral"}, "neither a larger nor a smaller value means fragile"),
        ({"scale_free": 0}, "it grows with the logits, so it does not compare between arms"),
        ({"probe": "update-path"}, "of weights that neither arm has"),
        ({"quantity": "peak-condition", "kind": "exact"}, "a derivative at one point says nothing"),
        ({"status": "not-converged", "reason": "voided: masked"}, "not-converged: voided: masked (24 of 24 rows)"),
        ({"status": "vacuous"}, "vacuous"),
    ],
)
def test_numbers_that_support_no_claim_are_neutral_and_say_why(
    measured: Any, labels: dict[str, Any], reason: str
) -> None:
    row = only(build_sensitivity_pairs(measured.rows(arms(1.0, 0.5), **labels), measured.record))

    assert row["direction"] == "neutral" and row["reason"].startswith(reason)
    assert row["ratio"] < 1 and pd.isna(row["p_adjusted"])


@pytest.mark.parametrize("kind", ["exact", "upper", "lower", "cert-det", "cert-prob"])
def test_bounds_exact_numbers_and_certificates_may_have_a_direction(measured: Any, kind: str) -> None:
    row = only(build_sensitivity_pairs(measured.rows(arms(1.0, 0.5), kind=kind, alpha=0.001), measured.record))

    assert (row["kind"], row["direction"]) == (kind, "candidate-more-sensitive")


@pytest.mark.parametrize(
    ("status", "kind", "norm"), [("errored", "estimate", None), ("not-converged", "upper", "l2")]
)
def test_one_example_without_a_number_withholds_the_direction_of_its_norm(
    measured: Any, status: str, kind: str, norm: str | None
) -> None:
    """An error has no norm, so that it is one of all norms; a search that found nothing is of its own norm."""
    values = arms(1.0, 0.5)
    frame = pd.concat([measured.rows(values, norm=norm) for norm in ("l2", "linf")], ignore_index=True)
    lost = (frame["checkpoint"] == "lora") & (frame["example_id"] == "3") & frame["norm"].isin([norm or "l2"])
    lost |= (frame["example_id"] == "3") & (frame["checkpoint"] == "lora") & (norm is None)
    frame.loc[lost, ["value", "status", "kind", "norm", "reason"]] = [None, status, kind, norm, "nothing found"]

    table = build_sensitivity_pairs(frame, measured.record).set_index("norm")

    assert table.loc["l2", ["n", "n_left_out", "direction"]].tolist() == [11, 1, "neutral"]
    assert table.loc["l2", "reason"].startswith(f"{status}: nothing found")
    expected = "neutral" if norm is None else "candidate-more-sensitive"
    assert table.loc["linf", "direction"] == expected


def test_what_a_probe_cannot_measure_on_an_example_is_left_out_and_counted(measured: Any) -> None:
    frame = measured.rows(arms(1.0, 0.5))
    frame.loc[[2, 14], ["value", "status", "kind", "reason"]] = [None, "unsupported", "estimate", "too long"]

    row = only(build_sensitivity_pairs(frame, measured.record))

    assert (row["n"], row["n_left_out"], row["direction"]) == (11, 1, "candidate-more-sensitive")


def test_distances_of_zero_are_left_out_by_rule_and_counted(measured: Any) -> None:
    values = arms(1.0, 0.5)
    values["full"][4] = 0.0

    row = only(build_sensitivity_pairs(measured.rows(values), measured.record))

    assert (row["n"], row["n_left_out"]) == (11, 1) and row["ratio"] == pytest.approx(0.5, rel=0.1)


def test_outcomes_are_compared_by_mcnemar(measured: Any) -> None:
    values = {"full": [1.0] * 9 + [0.0], "lora": [0.0] * 9 + [0.0]}

    row = only(build_sensitivity_pairs(measured.rows(values, aggregate="mean", kind="exact"), measured.record))

    assert row["test"] == "mcnemar-exact" and row["p_value"] == pytest.approx(2 / 2**9)
    assert row["p_value"] == mcnemar_exact(values["full"], values["lora"]).p_value
    assert row["difference"] == pytest.approx(0.9) and row["direction"] == "candidate-more-sensitive"


def test_radii_of_zero_are_no_outcomes(measured: Any) -> None:
    """Whose interval would reach from 0 to a rate of .28, in token norms."""
    rows = measured.rows({"full": [0.0] * 10, "lora": [0.0] * 10}, aggregate="mean", kind="exact", unit="token-norms")

    pair, arm = only(build_sensitivity_pairs(rows, measured.record)), build_sensitivity(rows, measured.record).iloc[0]

    assert (pair["test"], pair["low"], pair["high"]) == ("wilcoxon-signed-rank", 0, 0)
    assert (arm["value"], arm["low"], arm["high"]) == (0, 0, 0)


def test_few_examples_and_numbers_of_the_whole_have_no_direction(measured: Any) -> None:
    few = measured.rows({"full": [2.0] * 5, "lora": [1.0] * 5}, probe="few")
    whole = measured.rows({"full": [2.0], "lora": [1.0]}, probe="whole").assign(example_id=None, group_id=None)

    table = build_sensitivity_pairs(pd.concat([few, whole]), measured.record).set_index("probe")

    assert table["direction"].tolist() == ["neutral", "neutral"] and table["p_value"].isna().all()
    assert table["ratio"].tolist() == [0.5, 0.5]
    assert table.loc["few", "reason"].startswith("fewer than 6 examples")
    assert table.loc["whole", "reason"] == "one number of the whole checkpoint: nothing to test"


def test_rows_of_a_group_count_once(measured: Any) -> None:
    """Twelve examples of which each stands four times are evidence of twelve."""
    single = measured.rows(arms(1.0, 0.9))
    repeated = pd.concat([single.assign(example_id=single["example_id"] + f"-{i}") for i in range(4)])

    once, four = (only(build_sensitivity_pairs(frame, measured.record)) for frame in (single, repeated))

    assert four["n"] == 48 and once["n"] == 12
    assert [four[name] for name in ("ratio", "low", "high", "p_value")] == pytest.approx(
        [once[name] for name in ("ratio", "low", "high", "p_value")]
    )


def test_p_values_are_adjusted_over_the_directed_rows_of_a_pair_alone(measured: Any) -> None:
    rng = np.random.default_rng(5)
    frames = [
        measured.rows({"full": np.exp(rng.normal(0.4, 1, 30)), "lora": np.exp(rng.normal(size=30))}, **labels)
        for labels in ({"norm": "l2"}, {"norm": "linf"}, {"norm": "l1", "kind": "estimate"}, {"radius": 0.5})
    ]

    table = build_sensitivity_pairs(pd.concat(frames), measured.record)

    directed = table[table["direction"] != Direction.NEUTRAL]
    assert len(directed) == 3 and table["p_adjusted"].notna().sum() == 3
    assert directed["p_adjusted"].tolist() == pytest.approx(holm(directed["p_value"]).tolist())
    assert table["direction"].tolist()[-1] == "neutral"  # those that may support a claim come first
    assert name_families(table) == {
        "sensitivity, pair": ["t | p | q | l2 | content", "t | p | q | linf | content", "t | p | q | 0.5 | content"]
    }


def test_a_direction_needs_the_test_adjusted_over_the_pairs_numbers(measured: Any) -> None:
    """A signed-rank sum of 12 among twelve has p = .034: a finding alone, none among sixteen numbers."""
    close = {"full": np.exp(np.array([*range(1, 12), -12]) / 100), "lora": np.ones(12)}
    others = [measured.rows(arms(1.0, 1.0), scope=f"s{i}") for i in range(15)]

    alone = only(build_sensitivity_pairs(measured.rows(close), measured.record))
    among = build_sensitivity_pairs(pd.concat([measured.rows(close), *others]), measured.record)

    assert alone["direction"] == "candidate-more-sensitive" and alone["p_adjusted"] == pytest.approx(0.034, abs=5e-4)
    assert among["p_adjusted"].iloc[0] == pytest.approx(16 * alone["p_value"])
    assert set(among["direction"]) == {"no-difference-found"}


def disagreements(measured: Any, gradient: pd.DataFrame, distance: pd.DataFrame) -> list[str]:
    table = build_sensitivity_pairs(pd.concat([gradient, distance]), measured.record)
    return list(find_disagreements(table, measured.record))


def test_gradients_three_times_larger_beside_equal_distances_are_told_in_these_words(measured: Any) -> None:
    gradient = measured.rows(
        arms(1.0, 3.0), probe="margin-gradient", quantity="margin-gradient", kind="exact", norm="l2"
    )
    labels = {"probe": "adversarial-distance", "quantity": "relative-distance", "norm": "l2"}
    equal, nearer, farther = (measured.rows(arms(1.0, ratio), **labels) for ratio in (1.0, 0.3, 3.0))

    assert disagreements(measured, gradient, equal) == [
        "pair | t: margin-gradient of LoRA is 3 x that of full, the smallest adversarial distances found show no "
        "clear difference: a gradient alone is no evidence of fragility"
    ]
    assert disagreements(measured, gradient, nearer) == []
    assert "distances found call full more sensitive: a gradient" in disagreements(measured, gradient, farther)[0]
    voided = equal.assign(status="not-converged", reason="voided: masked")
    assert disagreements(measured, gradient, voided) == []


def test_the_terminal_names_the_arms_by_their_adaptation_and_a_gradient_names_none(measured: Any) -> None:
    frame = pd.concat(
        [
            measured.rows(arms(1.0, 3.0), probe="jacobian-norm", quantity="jacobian-norm", direction="fragile"),
            measured.rows(arms(1.0, 0.5), probe="adversarial-distance", quantity="relative-distance", norm="l2"),
        ]
    )
    tables = {
        Table.SENSITIVITY: build_sensitivity(frame, measured.record),
        Table.SENSITIVITY_PAIRS: build_sensitivity_pairs(frame, measured.record),
    }

    table, *sentences = render_probes(tables, measured.record.pairs[0], measured.record)

    assert isinstance(table, FittingTable)
    columns = {column.heading: [row[i] for row in table.rows] for i, column in enumerate(table.columns)}
    assert list(columns)[2:] == ["n", "full", "LoRA", "ratio", "more\nsensitive"]
    assert columns["more\nsensitive"] == ["", "LoRA"]
    assert columns["number"] == ["jacobian-norm", "adversarial-distance relative-distance, l2"]
    assert columns["ratio"][1].startswith("0.5 [0.4")
    assert not any("PEFT" in str(sentence) for sentence in sentences)


def test_the_terminal_tells_rows_apart_by_their_scope_where_nothing_else_does(measured: Any) -> None:
    """A number over all matrices, and over those that both arms change, had one name."""
    labels = {"probe": "update-structure", "quantity": "update-rank", "kind": "exact", "direction": "neutral"}
    frame = pd.concat(
        [
            measured.rows(arms(9.0, 4.0), **labels, scope="matrices"),
            measured.rows(arms(8.0, 4.0), **labels, scope="matrices changed in full and lora"),
            measured.rows(arms(1.0, 1.0), **labels | {"quantity": "embedding-drift"}, scope="matrices"),
        ]
    )
    tables = {
        Table.SENSITIVITY: build_sensitivity(frame, measured.record),
        Table.SENSITIVITY_PAIRS: build_sensitivity_pairs(frame, measured.record),
    }

    table, *_ = render_probes(tables, measured.record.pairs[0], measured.record)

    assert [(row[0], row[3]) for row in table.rows] == [
        ("update-structure update-rank (matrices)", "9"),
        ("update-structure update-rank (matrices changed in both arms)", "8"),
        ("update-structure embedding-drift", "1"),
    ]


@pytest.mark.parametrize("labels", [{"aggregate": "median"}, {"aggregate": "mean"}, {"direction": "fragile"}])
def test_swapping_the_arms_turns_every_comparison_over(measured: Any, labels: dict[str, str]) -> None:
    rng = np.random.default_rng(7)
    full, lora = np.exp(rng.normal(0.6, 0.5, 40)), np.exp(rng.normal(0.0, 0.5, 40))

    row, turned = (
        only(build_sensitivity_pairs(measured.rows({"full": a, "lora": b}, **labels), measured.record))
        for a, b in ((full, lora), (lora, full))
    )

    assert (row["reference_value"], row["candidate_value"]) == (turned["candidate_value"], turned["reference_value"])
    assert row["p_value"] == pytest.approx(turned["p_value"], rel=1e-12)
    if row["comparison"] == "ratio":
        ends = [row[name] * turned[other] for name, other in (("ratio", "ratio"), ("low", "high"), ("high", "low"))]
        assert ends == pytest.approx([1, 1, 1])
    else:
        assert row["difference"] == pytest.approx(-turned["difference"])
        assert (row["low"], row["high"]) == pytest.approx((-turned["high"], -turned["low"]), rel=0.1)  # bootstrap
    other = {"candidate-more-sensitive": "reference-more-sensitive"}
    other |= {value: key for key, value in other.items()}
    assert turned["direction"] == other[row["direction"]]


def test_arms_that_differ_by_chance_alone_have_uniform_p_values_and_rarely_a_direction(measured: Any) -> None:
    """Two trainings of one method: 120 numbers, each of its own pair, by Kolmogorov and Smirnov."""
    rng = np.random.default_rng(11)
    rows = []
    for _ in range(120):
        level = rng.normal(size=24)
        arms_of = {name: np.exp(level + 0.3 * rng.normal(size=24)) for name in ("full", "lora")}
        rows.append(only(build_sensitivity_pairs(measured.rows(arms_of), measured.record)))

    assert kstest([row["p_value"] for row in rows], "uniform").pvalue > 0.01
    named = sum(row["direction"] != "no-difference-found" for row in rows)
    assert named <= 12  # of Bin(120, .05) more than twelve has probability .007


def rendered(frame: pd.DataFrame, measured: Any) -> tuple[FittingTable, list[str]]:
    """The terminal's table, and the sentences below it, each on one line."""
    tables = {
        Table.SENSITIVITY: build_sensitivity(frame, measured.record),
        Table.SENSITIVITY_PAIRS: build_sensitivity_pairs(frame, measured.record),
    }
    table, *sentences = render_probes(tables, measured.record.pairs[0], measured.record)
    assert isinstance(table, FittingTable)
    return table, [" ".join(str(sentence).split()) for sentence in sentences]


def test_the_terminal_shows_the_values_of_the_examples_that_are_compared(measured: Any) -> None:
    """It took each arm's median over all its examples, another number than the page shows: n = 8 against 7."""
    frame = measured.rows({"full": [0.0, 1.0, 2.0, 3.0], "lora": [5.0, 2.0, 4.0, None]})

    table, _ = rendered(frame, measured)

    compared = only(build_sensitivity_pairs(frame, measured.record))
    assert (compared["n"], compared["reference_value"], compared["candidate_value"]) == (2, 1.5, 3.0)
    assert table.rows[0][2:5] == ("2", "1.5", "3")


def test_a_number_that_one_arm_alone_has_keeps_its_own_n(measured: Any) -> None:
    frame = measured.rows({"full": [1.0, 2.0, 3.0], "lora": [None, None, None]})

    table, _ = rendered(frame[frame["checkpoint"] == "full"], measured)

    assert table.rows[0][2:5] == ("3/-", "2", "-")


def test_a_footnote_names_the_number_with_norm_and_radius(measured: Any) -> None:
    labels = {"probe": "sharpness", "kind": "lower", "direction": "fragile", "example_id": None, "group_id": None}
    voided = {"status": "not-converged", "reason": "twice the steps gain 5.0%"}
    one = {"full": [1.0], "lora": [2.0]}
    frame = pd.concat(
        [
            measured.rows(one, quantity="sharpness", norm="frobenius", radius=0.5, **labels),
            measured.rows(one, quantity="sharpness", norm="adaptive", radius=5.0, **labels | voided),
            measured.rows(one, quantity="sharpness-in-tangent", norm="adaptive", radius=5.0, **labels | voided),
            measured.rows(one, quantity="noisy-accuracy", sigma=0.05, **labels | voided | {"probe": "smoothing"}),
        ]
    )

    table, sentences = rendered(frame, measured)

    assert [sentence for sentence in sentences if sentence.startswith("* full")] == [
        "* full | sharpness, adaptive, radius 5 and 1 more | not-converged: twice the steps gain 5.0%",
        "* full | smoothing noisy-accuracy, sigma 0.05 | not-converged: twice the steps gain 5.0%",
    ]
    assert [row[3] for row in table.rows] == ["1", "1*", "1*", "1*"]


def test_a_number_that_supports_no_claim_still_says_that_it_did_not_converge(measured: Any) -> None:
    """Sharpness grows with the logits, which hid that its search had not ended."""
    voided = {"status": "not-converged", "reason": "twice the steps gain 5.0%"}
    frame = measured.rows(arms(1.0, 2.0), scale_free=0, **voided)

    row = only(build_sensitivity_pairs(frame, measured.record))

    assert row["status"] == "not-converged" and row["direction"] == "neutral"
    assert row["reason"].startswith("it grows with the logits")
    assert "; not-converged: twice the steps gain 5.0%" in row["reason"]
    assert only(build_sensitivity_pairs(measured.rows(arms(1.0, 2.0)), measured.record))["status"] == "ok"


def test_levels_of_noise_are_compared_apart(measured: Any) -> None:
    labels = {"probe": "smoothing", "quantity": "certified-radius", "aggregate": "mean"}
    frame = pd.concat([measured.rows(arms(1.0, 1.0), sigma=sigma, **labels) for sigma in (0.05, 0.2)])

    table = build_sensitivity_pairs(frame, measured.record)

    assert table["sigma"].tolist() == [0.05, 0.2] and table["radius"].isna().all()
    assert build_sensitivity(frame, measured.record)["sigma"].tolist() == [0.05, 0.2] * 2
    assert [member.split(" | ")[-2] for member in name_families(table)["sensitivity, pair"]] == ["0.05", "0.2"]
