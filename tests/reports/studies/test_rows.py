"""Training rows of a study: every group is told by the rows it was given, with and without a run."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from generated_studies import FULL, Method, Shape, write_study

from robustness.reports.studies.columns import StudyTable
from robustness.reports.studies.study import build_study

NOT_RUN = "trained, but in no run: jobs.csv says why"
DIVERGED = "failed: the loss was not finite"


def _change(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    frame = change(pd.read_csv(path, dtype=str, keep_default_na=False))
    frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL)


def _reasons(folder: Path) -> dict[tuple[float, str], str]:
    """Of methods without a value, by rows."""
    table = build_study(folder).tables[StudyTable.STUDY_TABLE]
    listed = table[table["testset"].isna()]
    assert not listed.duplicated(["rows", "method"]).any()
    return {(row.rows, row.method): row.reason for row in listed.itertuples()}


def test_a_group_without_a_run_is_listed_beside_one_that_has_one(tmp_path: Path) -> None:
    methods = (FULL, Method("ia3", 3_000), Method("lora-r8", 74_000))
    folder = write_study(tmp_path / "study", Shape(methods=methods, rows=(500, 2000), n=20))
    _change(folder / "runs.csv", lambda runs: runs[runs["rows"] != "500"])

    assert _reasons(folder) == {(500, "full"): NOT_RUN, (500, "ia3"): NOT_RUN, (500, "lora-r8"): NOT_RUN}
    table = build_study(folder).tables[StudyTable.STUDY_TABLE]
    assert set(table.loc[table["testset"] == "all", "rows"]) == {2000}


def test_a_method_has_the_reasons_of_its_own_group_alone(tmp_path: Path) -> None:
    methods = (FULL, Method("ia3", 3_000), Method("lora-r8", 74_000))
    shape = Shape(methods=methods, rows=(500, 2000), n=20, seeds=1, failed=("ia3",))
    folder = write_study(tmp_path / "study", shape)

    def train_it_on_2000(rows: pd.DataFrame) -> pd.DataFrame:
        mine = (rows["method"] == "ia3") & (rows["rows"] == "2000")
        return rows.assign(status=rows["status"].mask(mine, "trained"), reason=rows["reason"].mask(mine, ""))

    _change(folder / "checkpoints.csv", train_it_on_2000)

    assert _reasons(folder) == {(500, "ia3"): DIVERGED, (2000, "ia3"): NOT_RUN}


def test_a_study_of_before_trained_rows_has_one_group_even_if_all_pairs_are_refused(tmp_path: Path) -> None:
    defended = Method("full+deepwordbug", FULL.parameters, defence="deepwordbug", added_rows=7_000)
    folder = write_study(tmp_path / "study", Shape(methods=(defended, FULL, Method("ia3", 3_000)), n=20, seeds=1))
    _change(
        folder / "checkpoints.csv",
        lambda rows: rows.assign(rows=rows["trained_rows"]).drop(columns="trained_rows"),
    )
    _change(folder / "runs.csv", lambda runs: runs.head(0))

    assert _reasons(folder) == {(8000, name): NOT_RUN for name in ("full", "full+deepwordbug", "ia3")}
