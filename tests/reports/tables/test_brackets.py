from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lxml.html
import pandas as pd
import pytest

from robustness.reports.report import write_report
from robustness.reports.summaries.terminal import render_summary
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table
from robustness.reports.tables.probes.brackets import build_brackets, find_violations
from robustness.reports.tables.probes.sensitivity import build_sensitivity, build_sensitivity_examples
from robustness.reports.tables.probes.sensitivity_pairs import build_sensitivity_pairs
from robustness.runs.storage.record import read_record
from robustness.sensitivity.measurement import Bracket, Kind, Measurement, Quantity

CERTIFIED = {
    "quantity": "certified-radius-local", "kind": "cert-det", "norm": "l2", "unit": "token-norms", "probe": "c"
}  # fmt: skip
FOUND = {"quantity": "relative-distance", "kind": "upper", "norm": "l2", "unit": "token-norms", "probe": "d"}


def frame_of(measured: Any, *sides: tuple[list[float], dict[str, Any]]) -> pd.DataFrame:
    """Readings of both arms, equal on both."""
    return pd.concat([measured.rows({"full": v, "lora": v}, **labels) for v, labels in sides], ignore_index=True)


def of_full(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["checkpoint"] == "full"].reset_index(drop=True)


def test_a_certificate_and_an_attacks_find_on_one_example_are_a_bracket(measured: Any) -> None:
    frame = frame_of(measured, ([0.1, 1e-5, 0.0], CERTIFIED), ([0.3, 0.2, 0.0], FOUND))

    table = of_full(build_brackets(frame))

    assert table["example_id"].tolist() == ["0", "1", "2"]
    assert table["status"].tolist() == ["ok", "vacuous", "ok"]
    assert table["ratio"].fillna(0).tolist() == pytest.approx([3, 2e4, 0])
    assert table[["lower_kind", "upper_kind"]].drop_duplicates().to_numpy().tolist() == [["cert-det", "upper"]]
    assert find_violations(table, SimpleNamespace(checkpoints=[SimpleNamespace(name="full")])) == ()


@pytest.mark.parametrize(
    "other",
    [{"norm": "linf"}, {"target": "smoothed"}, {"unit": "embedding"}, {"scope": "one token"}, {"testset": "u"}],
)
def test_bounds_of_other_norms_functions_units_scopes_and_test_sets_bracket_nothing(
    measured: Any, other: dict[str, str]
) -> None:
    assert build_brackets(frame_of(measured, ([0.5], CERTIFIED), ([0.3], FOUND | other))).empty


def test_a_bound_of_slopes_at_a_point_holds_in_every_ball_and_one_of_a_ball_in_larger_ones_alone(
    measured: Any,
) -> None:
    unit = {"unit": "logits / embedding", "norm": "l2"}
    slope = unit | {"quantity": "margin-gradient", "kind": "exact"}
    steepest = unit | {"quantity": "lipschitz-upper", "kind": "cert-prob", "alpha": 0.001}

    at_point = build_brackets(frame_of(measured, ([2.0], slope), ([9.0], steepest | {"radius": 0.1})))
    in_ball = [
        len(of_full(build_brackets(frame_of(measured, ([2.0], slope | {"radius": 0.2}), ([9.0], upper)))))
        for upper in (steepest | {"radius": radius} for radius in (0.1, 0.2, 0.3))
    ]

    assert of_full(at_point)[["ratio", "alpha"]].to_numpy().tolist() == [[4.5, 0.001]]
    assert in_ball == [0, 1, 1]


def test_a_rounding_error_is_no_contradiction_and_a_voided_find_bounds_all_the_same(measured: Any) -> None:
    frame = frame_of(measured, ([0.3 + 1e-6], CERTIFIED), ([0.3], FOUND | {"status": "not-converged"}))

    assert of_full(build_brackets(frame))["status"].tolist() == ["ok"]


def test_bounds_of_a_layer_are_held_against_each_other_by_module(measured: Any) -> None:
    blank = {"probe": "update-structure", "kind": "exact", "example_id": None, "group_id": None, "target": "theta"}
    frame = frame_of(
        measured,
        *(
            ([value], blank | {"quantity": name, "kind": kind, "layer": 0, "module": module})
            for module, growth, weyl in (("query", 0.1, 0.2), ("key", 0.3, 0.2))
            for name, kind, value in (
                ("log-spectral-growth", "exact", growth),
                ("log-spectral-growth-weyl", "upper", weyl),
            )
        ),
    )

    table = of_full(build_brackets(frame))

    assert dict(zip(table["module"], table["status"], strict=True)) == {"query": "ok", "key": "violated"}
    sentences = find_violations(table, SimpleNamespace(checkpoints=[SimpleNamespace(name="full")]))
    assert sentences[0].startswith("full | t | growth of a spectral norm, key: log-spectral-growth: the exact 0.3")


def test_the_tables_verdict_is_that_of_the_bracket(measured: Any) -> None:
    """A planted contradiction: a certificate of .4 beside a wrong answer at .3."""
    frame = frame_of(measured, ([0.4, 0.1], CERTIFIED), ([0.3, 0.3], FOUND))
    with pytest.raises(Exception, match="one is wrong") as raised:
        Bracket(
            Measurement(Quantity("certified-radius-local", "token-norms"), 0.4, Kind.CERT_DET, norm="l2"),
            Measurement(Quantity("relative-distance", "token-norms"), 0.3, Kind.UPPER, norm="l2"),
        )

    table = of_full(build_brackets(frame))

    assert table["status"].tolist() == ["violated", "ok"]
    assert table["reason"].iloc[0] == str(raised.value)


def test_a_run_reports_a_planted_contradiction_in_its_record_and_on_its_page(
    run_writer: Any, measured: Any, tmp_path: Path
) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())
    planted = frame_of(measured, ([0.4, 0.5], CERTIFIED), ([0.3, 0.3], FOUND)).assign(testset="clean-set")
    planted = planted[planted["checkpoint"] == "lora"].replace({"checkpoint": {"lora": "lora-0"}})
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection:
        planted.to_sql("measurements", connection, index=False)

    report = write_report(folder)

    (sentence,) = read_record(folder).violations
    assert sentence.startswith("lora-0 | clean-set | distance to the nearest wrong answer, example 0, and 1 more: ")
    assert "the cert-det 0.4 exceeds the upper 0.3" in sentence and sentence.endswith("please report it")
    page = lxml.html.document_fromstring((folder / "report.html").read_text(encoding="utf-8"))
    assert sentence in page.get_element_by_id("violations").text_content()
    assert any(f"fault: {sentence}" in str(getattr(part, "text", part)) for part in render_summary(report))
    stored = read_table(Table.BRACKETS, folder / "brackets.csv")
    assert stored["status"].tolist() == ["violated", "violated"]


def test_an_average_has_no_examples_alpha_and_each_example_keeps_its_own(measured: Any) -> None:
    labels = {"quantity": "certified-radius", "kind": "cert-prob", "alpha": 0.001, "aggregate": "mean"}
    frame = frame_of(measured, ([0.1 * n for n in range(8)], labels))
    whole = frame_of(measured, ([0.5], labels | {"quantity": "of-the-whole", "example_id": None}))

    averages = build_sensitivity(pd.concat([frame, whole]), measured.record)
    examples = build_sensitivity_examples(frame)

    alphas = averages.groupby("quantity")["alpha"].first()
    assert pd.isna(alphas["certified-radius"]) and alphas["of-the-whole"] == 0.001
    assert examples["alpha"].tolist() == [0.001] * 16
    assert build_sensitivity_pairs(frame, measured.record)["alpha"].isna().all()
