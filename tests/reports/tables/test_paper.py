"""The table for a paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness import api
from robustness.reports.tables.paper import PaperForm, caption, paper_table, write_paper


@pytest.fixture(scope="module")
def record(run_writer: Any) -> Any:
    return run_writer.record()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_it_has_clean_accuracy_planned_comparisons_and_baselines_and_nothing_else(planted: Any, record: Any) -> None:
    pairs = planted.table(
        planted.row(attack="none", metric="accuracy", family=None, p_adjusted=None, reference_value=0.9),
        planted.row(),
        planted.row(metric="attack_success_rate", population="both_correct", family="secondary"),
        planted.row(metric="effort", population="both_correct", family="effort"),
        planted.row(attack="random-chars", family=None, p_adjusted=None),
        planted.row(attack="identity", family=None, p_adjusted=None),
        planted.row(attack="worst-case", verdict="peft-more-fragile"),
    )

    table = paper_table(pairs, record)

    assert list(table) == ["test set", "attack", "n", "full", "LoRA", "difference", "low", "high", "p", "verdict"]
    assert table["attack"].tolist() == ["none", "swap", "random-chars", "worst case"]
    assert table.iloc[0][["full", "LoRA", "difference", "low", "high"]].tolist() == pytest.approx([90, 48, 2, -3, 7])
    assert table["p"].isna().tolist() == [True, False, True, False]
    assert table["verdict"].iloc[-1] == "LoRA more fragile"


def test_of_methods_with_several_seeds_only_the_pooled_rows_stand_in_it(planted: Any, run_writer: Any) -> None:
    pairs = planted.table(planted.row(), planted.row(pair="sst2 lora, 5 seeds", n_seeds=5, n=2000))
    record = run_writer.record(seeds=5)

    assert paper_table(pairs, record)["n"].tolist() == [2000]
    assert caption(pairs, record).endswith("Means over 5 training seeds.")


def test_a_pair_without_pooled_rows_stands_below_the_methods_that_have_some(planted: Any, run_writer: Any) -> None:
    singles = [planted.row(pair=f"pair-{seed}", n=100 + seed) for seed in range(4)]
    pairs = planted.table(*singles, planted.row(pair="sst2 lora, 3 seeds", n_seeds=3, verdict="peft-more-fragile"))
    record = run_writer.mixed()

    table = paper_table(pairs, record)

    assert table["pair"].tolist() == ["sst2 lora, 3 seeds", "pair-3"] and table["n"].tolist() == [400, 103]
    assert "PEFT" in table and table["verdict"].tolist() == ["PEFT more fragile", "inconclusive"]
    assert caption(pairs, record).endswith(
        "Means over 3 training seeds; rows without seeds in their name are of one pair."
    )


def test_several_pairs_and_metrics_are_named_and_a_single_one_is_not(planted: Any, run_writer: Any) -> None:
    rows = planted.row(), planted.row(pair="pair-1", attack="none", metric="f1", family=None)

    table = paper_table(planted.table(*rows), run_writer.record(seeds=2))

    assert list(table)[:4] == ["pair", "test set", "attack", "metric"]
    assert table["metric"].tolist() == ["robust accuracy", "f1"]


def test_an_arm_that_is_called_as_a_column_is_called_by_its_role(planted: Any, record: Any) -> None:
    lora = record.checkpoints[1].model_copy(update={"adaptation": "n"})
    named = record.model_copy(update={"checkpoints": (record.checkpoints[0], lora)})

    assert {"reference", "candidate"} <= set(paper_table(planted.table(planted.row()), named))


def test_markdown_and_latex_hold_the_rounded_numbers_and_csv_the_exact_ones(planted: Any, record: Any) -> None:
    row = planted.row(difference=-0.11, low=-0.17926, high=0.02001, reference_value=0.07, candidate_value=0.18)
    pairs = planted.table(row)
    table, note = paper_table(pairs, record), caption(pairs, record)

    markdown, latex, csv = (write_paper(table, note, form) for form in PaperForm)

    heads, _, shown = map(cells, markdown.splitlines()[:3])
    said = dict(zip(heads, shown, strict=True))
    assert said["difference, 95 % interval"] == "\u221211.0 [\u221218.0, +2.1]"  # ends are rounded outwards
    assert (said["full, %"], said["LoRA, %"], said["n"]) == ("7.0", "18.0", "400")
    assert "$-$11.0 [$-$18.0, +2.1]" in latex and r"\midrule" in latex and r"LoRA, \%" in latex
    assert csv.splitlines()[1] == '"set","swap","400","7","18","-11","-17.926","2.001","0.8","inconclusive"'


def test_no_name_in_it_is_a_command_a_cell_or_a_formula(
    planted: Any, run_writer: Any, hostile: tuple[str, ...]
) -> None:
    pairs = planted.table(*(planted.row(testset=text, pair=text) for text in hostile))
    record = run_writer.record()
    table = paper_table(pairs, record)

    markdown, latex, csv = (write_paper(table, caption(pairs, record), form) for form in PaperForm)

    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(cells(lines[0])) + 1}
    assert len(lines) == 2 + len(hostile) and "<script>" not in markdown
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")].splitlines()[1:]
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\[&%$#_{}]|\\\\$"
    assert len(body) == len(hostile)
    assert not any(re.search(r"[\\#^~%]", re.sub(known, "", line.replace("$-$", ""))) for line in body)
    assert not re.search(r'(?m)(^|,)"[=+@]', csv)
    back = pd.read_csv(pd.io.common.StringIO(csv))
    assert len(back) == len(hostile)


def test_the_report_command_writes_it_beside_the_page(run_writer: Any, tmp_path: Path) -> None:
    folder = run_writer.write(tmp_path / "run", run_writer.record())

    made = api.report(folder, form="paper")

    written = {path.name for path in folder.glob("paper.*")}
    assert written == {"paper.md", "paper.tex", "paper.csv"}
    pairs = made.tables["pairs"]
    planned = (pairs["family"] == "planned").sum()
    assert len(pd.read_csv(folder / "paper.csv")) == planned + 1  # and the clean set
