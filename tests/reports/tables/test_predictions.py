from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from robustness.engine.named_attack import Effort
from robustness.reports.page.predictions import draw_predictions
from robustness.reports.report import write_report
from robustness.reports.tables.columns import Table
from robustness.reports.tables.probes.predictions import build_predictions
from robustness.reports.tables.probes.sensitivity import build_sensitivity_examples
from robustness.runs.storage.record import AttackRecord
from robustness.stats import auc


def attacked(broken: list[bool]) -> pd.DataFrame:
    """examples.csv's rows of both arms under one attack."""
    return pd.DataFrame(
        [
            {"checkpoint": arm, "testset": "t", "attack": "swap", "goal": "change-prediction", "example_id": str(i)}
            | {"status": "succeeded" if each else "failed", "queries": 10 + i, "distance": 0.1 * (20 - i)}
            | {"modified_words": 1}
            for arm in ("full", "lora")
            for i, each in enumerate(broken)
        ]
    )


SPENDS_QUERIES: Any = SimpleNamespace(attacks=[AttackRecord(name="swap", family="f", digest="d")])


def predict(measured: Any, frames: list[pd.DataFrame], broken: list[bool]) -> pd.DataFrame:
    table = build_predictions(build_sensitivity_examples(pd.concat(frames)), attacked(broken), SPENDS_QUERIES)
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


@pytest.mark.parametrize("effort", list(Effort))
def test_the_rank_correlation_is_with_the_effort_to_break_and_giving_up_never_breaks(
    measured: Any, effort: Effort
) -> None:
    """An attack that gave up early on what it cannot break was taken for one that breaks it early."""
    rng = np.random.default_rng(1)
    values, broken = list(rng.normal(size=12)), [True] * 8 + [False] * 4
    examples = attacked(broken).assign(modified_words=[*rng.permutation(12)] * 2)
    examples.loc[examples["status"] == "failed", "queries"] = 1
    record: Any = SimpleNamespace(attacks=[AttackRecord(name="swap", family="f", digest="d", effort=effort)])

    table = build_predictions(
        build_sensitivity_examples(measured.rows({"full": values, "lora": values})), examples, record
    )

    spent = examples[examples["checkpoint"] == "full"][str(effort)].to_numpy(dtype=float)
    expected = spearmanr(values, [*spent[:8], *[1e9] * 4]).statistic
    assert table["rank_correlation"].tolist() == pytest.approx([expected] * 2)
    assert set(table["effort"]) == {str(effort)}


def test_the_figure_has_a_mark_for_each_arm_attack_and_norm_and_what_tells_most_on_top(measured: Any) -> None:
    rng = np.random.default_rng(2)
    broken = [True] * 12
    frames = [
        measured.rows({"full": values, "lora": values}, quantity="distance", norm=norm)
        for norm, values in (("l2", list(rng.normal(size=12))), ("linf", list(range(12))))
    ]
    table = build_predictions(build_sensitivity_examples(pd.concat(frames)), attacked(broken), SPENDS_QUERIES)

    figure = draw_predictions(table, {"full": "full", "lora": "peft"}, "pair")

    assert [row.name for row in figure.rows] == ["p: distance, linf", "p: distance, l2"]
    weaker = float(table.loc[table["norm"] == "l2", "rank_correlation"].iloc[0])
    for row, correlation in zip(figure.rows, (1.0, weaker), strict=True):
        assert [(mark.shape, mark.colour) for mark in row.marks] == [("circle", "full"), ("up", "peft")]
        assert [mark.at for mark in row.marks] == pytest.approx([50 + 50 * correlation / 1.05] * 2, abs=0.01)
    assert "full, swap: +1.00, n = 12" in figure.rows[0].marks[0].title


def test_the_page_shows_the_figure_once(run_writer: Any, measured: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())
    outcomes = write_report(folder).tables[Table.EXAMPLES]
    attacked_rows = outcomes[(outcomes["attack"] != "none") & outcomes["status"].isin(["succeeded", "failed"])]
    testset = attacked_rows["testset"].iloc[0]
    ids = sorted(set(attacked_rows.loc[attacked_rows["testset"] == testset, "example_id"]))
    values = list(np.random.default_rng(3).normal(size=len(ids)))
    planted = measured.rows({"full": values, "lora": values}).assign(testset=testset)
    planted["example_id"] = ids * 2
    planted["checkpoint"] += "-0"
    with closing(sqlite3.connect(folder / "run.sqlite")) as connection:
        planted.to_sql("measurements", connection, index=False)

    report = write_report(folder)

    assert report.tables[Table.PREDICTIONS]["rank_correlation"].notna().any()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("rank correlation with the effort to break</span>") == 1


def test_a_number_in_other_units_orders_the_examples_alike_and_is_left_out(measured: Any) -> None:
    values = list(np.random.default_rng(4).normal(size=12))
    frames = [
        measured.rows({"full": values, "lora": values}, quantity=f"jacobian-norm{per}")
        for per in ("", "-per-token-norm", "-per-neighbour")
    ]

    table = predict(measured, frames, [True] * 6 + [False] * 6)

    assert table["quantity"].tolist() == ["jacobian-norm"]
