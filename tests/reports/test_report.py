"""What a report says in Python and in a notebook, and what it draws."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pandas as pd
import pytest

import robustness
from robustness.errors import UsageError
from robustness.reports import report as report_module
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.tables.columns import Table
from robustness.reports.tables.paper import paper_table
from robustness.runs.storage.lock import LockHolder
from robustness.runs.storage.record import AttackedRecord, read_record, update_record


@pytest.fixture(scope="module")
def report(run_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> robustness.Report:
    folder = tmp_path_factory.mktemp("report") / "run"
    return robustness.load(run_writer.write(folder, run_writer.record()))


def test_a_report_has_its_tables_and_its_answer_by_name(report: robustness.Report) -> None:
    (answer,) = summarise_run(report.tables[Table.PAIRS], report.record).shown

    assert report.pairs is report.tables["pairs"] and report.attacks is report.tables["attacks"]
    assert report.verdict == f"{answer.headline.collapse} {answer.headline.difference}".strip()
    pd.testing.assert_frame_equal(report.paper_table(), paper_table(report.pairs, report.record))


def test_printed_it_says_what_was_compared_and_the_verdict(report: robustness.Report) -> None:
    first, *rest = repr(report).splitlines()

    assert first == f"Report of {report.folder}: suite suite, pairs pair-0, 0 errored"
    assert rest == [report.verdict]


def test_of_many_pairs_it_names_three(run_writer: Any, tmp_path: Any) -> None:
    record = run_writer.record(seeds=5, n=4)
    record = record.model_copy(update={"pairs": tuple(p.model_copy(update={"seed": None}) for p in record.pairs)})

    many = robustness.load(run_writer.write(tmp_path / "run", record))

    assert "pairs pair-0, pair-1, pair-2 and 2 more, 0 errored" in repr(many)
    assert len(repr(many).splitlines()) <= 5


def test_a_notebook_shows_sentence_and_table(report: robustness.Report) -> None:
    shown = lxml.html.fromstring(report._repr_html_())

    heads = [cell.text for cell in shown.iterfind(".//th")]
    assert shown.findtext(".//p") == report.verdict
    assert heads[:6] == ["test set", "attack", "n", "full, %", "LoRA, %", "difference, 95 % interval"]
    assert len(shown.findall(".//tbody/tr")) == min(12, len(report.paper_table()))


def test_a_notebook_runs_nothing_of_hostile_names(run_writer: Any, hostile: Any, tmp_path: Any) -> None:
    names: Iterator[str] = cycle(hostile)
    record = run_writer.record(lambda name: f"{name} {next(names)}", n=4)

    report = robustness.load(run_writer.write(tmp_path / "run", record))
    shown = lxml.html.fromstring(report._repr_html_())

    known = {"div", "strong", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert {element.tag for element in shown.iter()} <= known
    assert "script" in repr(report)
    assert report.plot_budget().axes


def test_the_figure_has_both_arms_of_each_attack_at_the_values_of_curves_csv(report: robustness.Report) -> None:
    figure = report.plot_budget("swap", testset="clean-set", budget_kind="queries")

    (axes,) = figure.axes
    curves = report.tables["curves"].query("testset == 'clean-set' and attack == 'swap' and budget_kind == 'queries'")
    for line, name, label in zip(axes.lines, ("full-0", "lora-0"), ("full", "LoRA"), strict=True):
        rows = curves[curves["checkpoint"] == name]
        assert line.get_label() == label
        np.testing.assert_allclose(line.get_xdata()[:-1], rows["budget"].astype(float))
        np.testing.assert_allclose(line.get_ydata()[:-1], 100 * rows["robust_accuracy"].astype(float))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("queries", "robust accuracy, %")


def test_without_a_choice_every_test_set_attack_and_budget_has_a_panel(report: robustness.Report) -> None:
    panels = report.tables["curves"][["testset", "attack", "budget_kind"]].drop_duplicates()

    assert sum(axes.get_visible() for axes in report.plot_budget().axes) == len(panels)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attack": "swop"}, "plot_budget: attack 'swop': no such curve; did you mean 'swap'?"),
        ({"testset": "sst2"}, "plot_budget: testset 'sst2': no such curve"),
        ({"pair": "pair-1"}, "plot_budget: pair 'pair-1': no such curve; did you mean 'pair-0'?"),
        ({"budget_kind": "query"}, "plot_budget: budget_kind 'query': no such curve; did you mean 'queries'?"),
    ],
)
def test_what_the_run_has_not_is_refused_with_the_nearest_name(
    report: robustness.Report, given: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        report.plot_budget(**given)

    assert str(refused.value).startswith(said)


def test_a_report_that_a_run_overtakes_writes_what_the_run_ended_with(
    run_writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run writes its last rows and its report while an earlier report is built."""
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=4))
    build, ends = report_module.build_report, iter([True])
    with closing(sqlite3.connect(folder / "run.sqlite")) as store, store:
        store.execute("CREATE TABLE later AS SELECT * FROM outcomes WHERE attack = 'synonym'")
        store.execute("DELETE FROM outcomes WHERE attack = 'synonym'")

    def overtaken(*given: Any) -> Any:
        built = build(*given)
        if next(ends, False):
            with closing(sqlite3.connect(folder / "run.sqlite")) as store, store:
                store.execute("INSERT INTO outcomes SELECT * FROM later")
            robustness.report(folder)
        return built

    monkeypatch.setattr(report_module, "build_report", overtaken)
    made = robustness.report(folder)

    assert len(pd.read_csv(folder / "examples.csv")) == len(made.tables[Table.EXAMPLES]) == 2 * 2 * 3 * 4
    assert made.missing == 0 and "are missing" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_beside_a_run_keeps_what_the_run_writes_into_its_record(
    run_writer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=4))
    holder = LockHolder(pid=os.getppid(), host=socket.gethostname(), since="then")
    (folder / "run.lock").write_text(holder.model_dump_json())
    build = report_module.build_report
    chosen = (AttackedRecord(checkpoint="full-0", testset="clean-set", rows=("e1",)),)

    def beside(*given: Any) -> Any:
        built = build(*given)
        update_record(folder, warnings=("found meanwhile",), chosen=chosen)
        return built

    monkeypatch.setattr(report_module, "build_report", beside)
    robustness.report(folder, margin=0.07)

    record = read_record(folder)
    assert record.warnings == ("found meanwhile",) and record.chosen == chosen
    assert record.statistics.margin == 0.07 and record.statistics.families


def test_a_report_of_an_unchanged_run_leaves_its_record_alone(run_writer: Any, tmp_path: Path) -> None:
    """The record's time tells a report that is being built that the run has gone on."""
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=4))
    robustness.report(folder)
    before = (folder / "run.json").stat().st_mtime_ns

    robustness.report(folder)

    assert (folder / "run.json").stat().st_mtime_ns == before
