"""The study's table: values held against plain pandas over examples.csv, verdicts against known truths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.errors import UsageError
from robustness.reports.studies.columns import COLUMN_MEANINGS, STUDY_COLUMNS, StudyTable, study_meaning_of
from robustness.reports.studies.layouts import ELEVEN, Layout, place, to_latex, to_markdown
from robustness.reports.studies.study import StudyReport, build_study
from robustness.reports.studies.study import write_study as answer
from robustness.reports.tables.columns import Table
from robustness.reports.tables.csvfiles import read_table, write_table
from robustness.runs.cells import WORST_CASE
from robustness.stats.doses.trends import Fit


def cell(report: StudyReport, **wanted: object) -> pd.Series:
    table = report.tables[StudyTable.STUDY_TABLE]
    for name, value in ({"matching": "best"} | wanted).items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_values_are_means_over_seeds_of_the_examples_of_all_checkpoints(
    rising: Path, rising_report: StudyReport
) -> None:
    examples = read_table(Table.EXAMPLES, rising / "runs/sst2-best/examples.csv")
    mine = examples[(examples["attack"] == "swap") & examples["checkpoint"].str.contains("lora-r8")]
    by_seed = (mine["status"] == "failed").groupby(mine["checkpoint"]).mean()
    full = examples[(examples["attack"] == "swap") & examples["checkpoint"].str.contains("full")]
    expected = (full["status"] == "failed").groupby(full["checkpoint"]).mean()

    found = cell(rising_report, method="lora-r8", testset="sst2-set-0", attack="swap")

    assert (found["value"], found["sd"]) == pytest.approx((by_seed.mean(), by_seed.std()))
    assert found["difference"] == pytest.approx(expected.mean() - by_seed.mean())
    assert found["clean_value"] == pytest.approx((mine["clean_correct"] == 1).mean())
    assert (found["n"], found["n_seeds"], found["n_left_out"]) == (150, 3, 0)
    assert found["noise_largest"] == pytest.approx(np.ptp(expected))


def test_an_example_that_one_checkpoint_lacks_is_left_out_of_all(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape())
    path = folder / "runs/sst2-best/examples.csv"
    examples = read_table(Table.EXAMPLES, path)
    gone = (
        (examples["checkpoint"] == "sst2-lora-r2-1")
        & (examples["attack"] == "swap")
        & (examples["example_id"] == "e7")
    )
    write_table(examples.assign(status=examples["status"].where(~gone, "errored")), Table.EXAMPLES, path)

    report = build_study(folder)

    for method in ("full", "lora-r1", "lora-r16"):
        found = cell(report, method=method, testset="sst2-set-0", attack="swap")
        assert (found["n"], found["n_left_out"]) == (59, 1)
    assert cell(report, method="full", testset="sst2-set-0", attack="synonym")["n"] == 60
    assert cell(report, method="full", testset="all")["n"] == 59


def test_a_checkpoint_without_most_examples_is_left_out_itself(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape())
    path = folder / "runs/sst2-best/examples.csv"
    examples = read_table(Table.EXAMPLES, path)
    gone = (examples["checkpoint"] == "sst2-lora-r2-1") & (examples["attack"] == "swap") & (examples.index % 2 == 0)
    write_table(examples[~gone], Table.EXAMPLES, path)

    report = build_study(folder)

    assert cell(report, method="full", testset="sst2-set-0", attack="swap")["n"] == 60
    assert cell(report, method="lora-r2", testset="sst2-set-0", attack="swap")["n_seeds"] == 2
    assert any("sst2-lora-r2-1" in sentence for sentence in report.answers.caveats)


def test_the_worst_case_is_withstanding_every_attack(rising: Path, rising_report: StudyReport) -> None:
    examples = read_table(Table.EXAMPLES, rising / "runs/sst2-best/examples.csv")
    attacked = examples[(examples["attack"] != "none") & examples["checkpoint"].str.contains("full")]
    withstood = (attacked["status"] == "failed").groupby([attacked["checkpoint"], attacked["example_id"]]).all()

    found = cell(rising_report, method="full", testset="sst2-set-0", attack=WORST_CASE)

    assert found["value"] == pytest.approx(withstood.mean())


def test_pooled_score_counts_every_example_once(tmp_path: Path) -> None:
    report = build_study(write_study(tmp_path / "study", Shape(sets=("set-0", "adv-1"), n=40)))

    pooled = cell(report, method="full", testset="all")
    parts = [cell(report, method="full", testset="sst2-set-0", attack=name)["value"] for name in ("swap", "synonym")]
    other = [
        cell(report, method="full", testset="sst2-adv-1", attack=name)["value"]
        for name in ("none", "swap", "synonym")
    ]

    assert pooled["n"] == 80
    assert pooled["value"] == pytest.approx((np.mean(parts) + np.mean(other)) / 2)


def test_the_table_tells_controls_from_what_was_planned(rising_report: StudyReport) -> None:
    table = rising_report.tables[StudyTable.STUDY_TABLE]
    mine = table[(table["method"] == "lora-r1") & (table["matching"] == "best")]

    roles = {(row.testset, row.attack): row.role for row in mine.itertuples()}

    assert roles == {
        ("all", "all"): "primary",
        ("sst2-set-0", "swap"): "planned",
        ("sst2-set-0", "synonym"): "planned",
        ("sst2-set-0", WORST_CASE): "worst-case",
        ("sst2-set-0", "none"): "control",
    }
    assert mine.loc[mine["role"] == "control", "p_adjusted"].isna().all()
    assert all(f"`{role}`" in COLUMN_MEANINGS["role"] for role in roles.values())


def test_truly_more_fragile_methods_are_said_to_be(rising_report: StudyReport) -> None:
    weakest = cell(rising_report, method="lora-r1", testset="all")

    assert weakest["verdict"] == "peft-more-fragile"
    assert 0.15 < weakest["low"] < weakest["difference"] < weakest["high"] < 0.4


def test_two_seeds_give_no_verdict(told) -> None:
    report = told(Shape(methods=(FULL, Method("lora-r8", 9_000, robust=0.1)), seeds=2))

    found = cell(report, method="lora-r8", testset="all")

    assert (found["verdict"], found["reason"]) == ("inconclusive", "two-seeds")
    assert report.answers.methods[0].endswith(" is without a verdict, which needs a third training seed.")


@pytest.mark.parametrize(
    ("seeds", "reason", "words"),
    [
        (3, "left-out", "is not judged because over 5 % of the examples lack an outcome on some checkpoint."),
        (2, "two-seeds", "is without a verdict, which needs a third training seed."),
    ],
)
def test_a_withheld_verdict_is_told_as_none(tmp_path: Path, seeds: int, reason: str, words: str) -> None:
    methods = (FULL, Method("lora-r8", 74_000, robust=0.1))
    folder = write_study(tmp_path / "study", Shape(methods=methods, n=100, seeds=seeds))
    path = folder / "runs/sst2-best/examples.csv"
    examples = read_table(Table.EXAMPLES, path)
    gone = (
        (examples["checkpoint"] == "sst2-lora-r8-1")
        & (examples["attack"] == "swap")
        & examples["example_id"].isin([f"e{i}" for i in range(6)])
    )
    write_table(examples.assign(status=examples["status"].where(~gone, "errored")), Table.EXAMPLES, path)

    report = build_study(folder)

    found = cell(report, method="lora-r8", testset="all")
    assert (found["n_left_out"], found["verdict"], found["reason"]) == (6, "inconclusive", reason)
    assert report.answers.methods[0].endswith(words)


def test_full_alone_has_a_noise_floor_and_no_difference(told) -> None:
    report = told(Shape(methods=(FULL,), seeds=4))

    found = cell(report, method="full", testset="all")

    assert found["noise_floor"] > 0
    assert pd.isna(found["difference"])
    assert report.answers.methods == ()
    assert "over 4 seeds" in report.answers.floor[0]


def test_a_method_that_never_trained_is_a_row_with_its_reason(told) -> None:
    shape = Shape(methods=(FULL, Method("ia3", 3_000), *ranks()), seeds=1, failed=("ia3",))

    report = told(shape)

    table = report.tables[StudyTable.STUDY_TABLE]
    row = table[table["method"] == "ia3"].iloc[0]
    assert row["n_seeds"] == 0
    assert "the loss was not finite" in row["reason"]
    assert "ia3" in report.paper_table("compact")["method"].tolist()


def test_every_table_has_its_declared_columns_and_no_formula(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape(name=lambda text: "=" + text, probes=True))

    answer(folder)

    for table in StudyTable:
        text = (folder / f"{table}.csv").read_text(encoding="utf-8")
        assert text.splitlines()[0] == ",".join(f'"{column.name}"' for column in STUDY_COLUMNS[table])
        assert '"=' not in text
    assert "'=lora-r8" in (folder / "study_table.csv").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    shape = Shape(methods=(FULL, *ranks(of=[2**power for power in range(30)])), sets=("a", "b", "c"), seeds=1, n=20)
    return build_study(write_study(tmp_path_factory.mktemp("wide") / "study", shape)).tables[StudyTable.STUDY_TABLE]


def test_long_tables_are_split_into_pages_of_latex(wide: pd.DataFrame) -> None:
    text = to_latex(place(wide), "A note of 5 %")

    tables = text.split(r"\begin{table}")[1:]
    assert len(tables) > 4
    for each in tables:
        rows = [line for line in each.splitlines() if line.endswith(r"\\")]
        assert len(rows) <= 1 + 2 * 24
        assert each.count(r"\begin{tabular}") == each.count(r"\end{tabular}") == 1
        columns = each.split(r"\begin{tabular}{")[1].split("}")[0]
        assert len(columns) <= 4 + 3
        assert {line.count(" & ") for line in rows} == {len(columns) - 1}
    assert r"A note of 5 \%" in tables[0]


def test_no_name_is_a_command_of_latex_or_markdown(told) -> None:
    report = told(Shape(methods=(FULL, Method("lora_r8|50%$x$", 9_000)), n=20))
    placed = place(report.tables[StudyTable.STUDY_TABLE])

    assert r"lora\_r8\textbar{}50\%\$x\$" in to_latex(placed, "")
    assert r"lora\_r8\|50%$x$" in to_markdown(placed, "")


def test_the_papers_layout_has_its_eleven_sets_in_order(told) -> None:
    report = told(Shape(methods=(FULL, Method("lora-r8", 9_000)), n=20))

    found = report.paper_table("paper-2505.22355")

    assert list(found.columns)[-11:] == list(ELEVEN)
    assert (found[list(ELEVEN)] == "").all().all()


def test_the_compact_layout_has_matched_beside_unmatched(rising_report: StudyReport) -> None:
    found = rising_report.paper_table(Layout.COMPACT)

    cells = ["all", "all, matched", "sst2-set-0, worst case", "sst2-set-0, worst case, matched"]
    assert list(found.columns) == ["method", "trained", "share", "seeds", *cells]
    assert found["method"].tolist() == ["full", "bitfit", *(f"lora-r{rank}" for rank in (1, 2, 4, 8, 16))]
    weakest = found[found["method"] == "lora-r1"].iloc[0]
    for column, matching in (("all", "best"), ("all, matched", "clean")):
        row = cell(rising_report, method="lora-r1", testset="all", matching=matching)
        text = weakest[column]
        assert f" \u2192 {100 * row['value']:.1f} \u00b1 " in text
        assert f" +{100 * row['difference']:.1f} [" in text and text.endswith("\u25b6")


def test_an_unknown_layout_is_refused_with_the_known_ones(rising_report: StudyReport) -> None:
    with pytest.raises(UsageError, match=r"no layout 'wide'; expected whole, compact, paper-2505\.22355"):
        rising_report.paper_table("wide")


def test_every_column_has_a_meaning_and_every_meaning_a_column() -> None:
    columns = [column for declared in STUDY_COLUMNS.values() for column in declared]

    assert all(study_meaning_of(column) for column in columns)
    assert COLUMN_MEANINGS.keys() <= {column.name for column in columns}
    assert all(f"`{fit}`" in COLUMN_MEANINGS["fit"] for fit in Fit)


def test_a_study_whose_pairs_are_all_refused_lists_its_methods_with_the_reason(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", Shape(methods=(FULL, Method("ia3", 3_000)), n=20))
    (folder / "runs.csv").write_text('"task","rows","matching","suite","folder"\n')
    (folder / "jobs.csv").write_text(
        '"id","kind","name","state","seconds","reason"\n"a","gate","sst2-best","refused","1","all pairs"\n'
    )

    sentences = answer(folder)

    table = build_study(folder).tables[StudyTable.STUDY_TABLE]
    assert table["method"].tolist() == ["full", "ia3"]
    assert set(table["reason"]) == {"trained, but in no run: jobs.csv says why"}
    assert "Jobs without a result, for reasons in jobs.csv: gate sst2-best (refused)." in sentences
    assert "trained, but in no run" in (folder / "study.html").read_text(encoding="utf-8")
