from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness import api
from robustness.errors import RunError
from robustness.reports.report import write_report
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.export import Format, export_tables
from robustness.runs.storage.store import Store


@pytest.fixture(scope="module")
def report(run_writer: Any, hostile: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = run_writer.write(
        tmp_path_factory.mktemp("exports") / "run", run_writer.record(n=24), lambda i: hostile[i % len(hostile)]
    )
    return write_report(folder)


def test_parquet_holds_the_same_text_and_numbers(report: Any) -> None:
    export_tables(report.tables, report.folder, Format.PARQUET)

    for table in Table:
        if table in report.tables:
            back = pd.read_parquet(report.folder / f"{table}.parquet")
            assert list(back) == [column.name for column in COLUMNS[table]]
            assert len(back) == len(report.tables[table])
    examples = pd.read_parquet(report.folder / "examples.parquet")
    assert examples["original_text"].tolist() == report.tables[Table.EXAMPLES]["original_text"].tolist()
    pairs = pd.read_parquet(report.folder / "pairs.parquet")
    assert pairs["difference"].tolist() == report.tables[Table.PAIRS]["difference"].tolist()


def test_no_text_in_latex_is_a_command_and_every_row_has_all_its_cells(report: Any) -> None:
    export_tables(report.tables, report.folder, Format.LATEX)

    lines = (report.folder / "examples.tex").read_text(encoding="utf-8").splitlines()
    body = lines[4:-2]
    assert lines[0].startswith(r"\begin{tabular}{") and lines[-1] == r"\end{tabular}"
    assert len(body) == len(report.tables[Table.EXAMPLES])
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\[&%$#_{}]|\\\\$"
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == len(COLUMNS[Table.EXAMPLES]) - 1
        assert not re.search(r"[\\$#^~%]", re.sub(known, "", line))


def test_every_row_in_markdown_has_all_its_cells(report: Any) -> None:
    export_tables(report.tables, report.folder, Format.MARKDOWN)

    lines = (report.folder / "examples.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 + len(report.tables[Table.EXAMPLES])
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(COLUMNS[Table.EXAMPLES]) + 1}
    assert not any("<script>" in line for line in lines)


def test_a_run_compared_with_itself_has_not_changed(report: Any) -> None:
    found = api.compare(report.folder, report.folder)

    assert found.settings == () and found.only_a == found.only_b == ()
    assert len(found.cells) == 12 and (found.cells["difference"] == 0).all()
    assert set(found.cells["change"]) <= {"same", "unclear"}


def test_two_runs_are_compared_where_they_coincide(run_writer: Any, tmp_path: Path) -> None:
    record = run_writer.record(n=80)
    first = run_writer.write(tmp_path / "a", record)
    checkpoints = list(record.checkpoints)
    stronger = checkpoints[1].model_copy(update={"adaptation": "full"})  # the writer breaks full less often
    other = record.model_copy(update={"seed": 5, "checkpoints": (checkpoints[0], stronger)})
    second = run_writer.write(tmp_path / "b", other.model_copy(update={"attacks": record.attacks[:1]}))

    found = api.compare(first, second)

    cells = found.cells[(found.cells["checkpoint"] == "lora-0") & (found.cells["attack"] == "swap")]
    assert set(cells["change"]) == {"higher"} and (cells["high"] < 0).all()
    assert ("seed", "0", "5") in found.settings and ("attack synonym", "d", "absent") in found.settings
    assert len(found.only_a) == 4 and all("synonym" in cell for cell in found.only_a)


def test_runs_without_a_common_cell_are_refused(run_writer: Any, tmp_path: Path) -> None:
    first = run_writer.write(tmp_path / "a", run_writer.record(n=2))
    second = run_writer.write(tmp_path / "b", run_writer.record(lambda name: "other " + name, n=2))

    with pytest.raises(RunError, match="share no cell"):
        api.compare(first, second)


@pytest.mark.parametrize(
    ("versions", "release"),
    [({"peft-robustness": "0.0.9"}, "peft-robustness 0.0.9"), ({}, "another release of peft-robustness")],
)
def test_another_schema_version_is_refused_with_its_release_and_the_command_that_repeats_the_run(
    run_writer: Any, tmp_path: Path, versions: dict[str, str], release: str
) -> None:
    made = run_writer.record(n=2).model_copy(update={"versions": versions})
    folder = run_writer.write(tmp_path / "run", made)
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("PRAGMA user_version=3")
    connection.close()

    for read in (write_report, Store):  # to write a report, and to go on with the run
        with pytest.raises(RunError) as refused:
            read(folder)
        said = f"run.sqlite: schema version 3, expected 5: {release} wrote it and reads it, peft-robustness 0.2.0"
        assert said in str(refused.value)
        assert re.search(r"robustness run suite --out .*run-again", str(refused.value))


@pytest.mark.parametrize("version", ["0.1.0", None])
def test_a_record_of_another_release_is_refused_with_that_release(
    run_writer: Any, tmp_path: Path, version: str | None
) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record(n=2))
    record = json.loads((folder / "run.json").read_text())
    record["versions"] = {"peft-robustness": version} if version else {}
    del record["pairs"]
    (folder / "run.json").write_text(json.dumps(record))

    with pytest.raises(RunError) as refused:
        api.report(folder)

    writer = f"peft-robustness {version}" if version else "another release of peft-robustness"
    assert f"run.json: {writer} wrote it and reads it, peft-robustness 0.2.0.dev0 does not" in str(refused.value)


def test_a_report_of_a_run_imports_no_recipe_no_probe_and_no_torch(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())
    code = (
        "import sys; from robustness.cli import app; sys.argv[1:] = ['report', sys.argv[1]]\n"
        "try: app()\n"
        "finally: print('imported:', [n for n in sys.modules if n in ('torch', 'transformers') or "
        "n.startswith(('robustness.recipes', 'robustness.sensitivity.', 'robustness.victims'))])"
    )

    found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)

    assert found.stdout.splitlines()[-1] == "imported: ['robustness.sensitivity.measurement']"  # the words of a table
    assert (folder / "report.html").is_file()
