"""The last screen of a run, from planted rows of pairs.csv."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from robustness.definitions.tasks import find_task
from robustness.reports.report import Report
from robustness.reports.run_comparison import RunComparison
from robustness.reports.summaries.fitting import Column, FittingTable, Sentence
from robustness.reports.summaries.terminal import render_comparison, render_summary
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.runs.storage.record import RunRecord
from robustness.terminal.printing import PIPE_WIDTH

FRAGILE = {"difference": 0.1, "low": 0.0512, "high": 0.1488, "p_adjusted": 0.0004, "verdict": "peft-more-fragile"}
CONTROL = {"attack": "none", "metric": "accuracy", "family": None, "p_adjusted": None, "p_value": 0.0301}


def screen(record: RunRecord, pairs: pd.DataFrame, width: int = 80) -> list[str]:
    """The lines of the terminal."""
    tables = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    every = record.model_copy(update={"testsets": (), "warnings": ("a warning",)})
    written = StringIO()
    console = Console(width=width, file=written, highlight=False)
    for part in render_summary(Report(Path("out"), every, tables | {Table.PAIRS: pairs})):
        console.print(part, soft_wrap=isinstance(part, str))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def test_the_screen_word_for_word(planted: Any, run_writer: Any) -> None:
    """Of an interval that leaves the margin no end reads as if it were on it, nor a p-value above its level."""
    floor = {"reference_value": 0.02, "candidate_value": 0.03, "difference": -0.01, "reason": "floor"}
    ends = {"low": -0.0241, "high": 0.0199, "p_adjusted": 0.0501}
    pairs = planted.table(
        planted.row(**FRAGILE, candidate_value=0.4),
        planted.row(attack="worst-case", **floor, **ends),
        planted.row(attack="worst-case", metric="effort", population="both_correct", family="effort", n=300),
        planted.row(metric="attack_success_rate", population="both_correct", family="secondary", n=348, verdict=None),
        planted.row(**CONTROL, verdict="less-accurate"),
    )

    lines = screen(run_writer.record(), pairs)

    tables = next(i for i, line in enumerate(lines) if line.startswith("tables in out: examples.csv, "))
    assert max(map(len, lines[tables:])) <= 80
    assert lines[:tables] == [
        "pair pair-0: LoRA (candidate) beside full fine-tuning (reference)",
        "clean accuracy before the run: full 0.900, LoRA 0.900, majority class 0.500",
        "  (n = 100)",
        "planned comparisons on set",
        "attack       n  full  LoRA              difference p adj. verdict",
        "\u2500" * 78,
        "swap       400 0.500 0.400 +0.100 [+0.051, +0.149] <0.001 LoRA more fragile",
        "worst-case 400 0.020 0.030 -0.010 [-0.025, +0.020]  0.051 inconclusive (floor)",
        "other comparisons on set, not counted",
        "attack               n  full  LoRA              difference p adj. verdict",
        "\u2500" * 78,
        "worst-case, effort 300 0.500 0.480 +0.020 [-0.030, +0.070]  0.800 inconclusive",
        "controls on set, not counted; p not adjusted",
        "attack      n  full  LoRA              difference     p verdict",
        "\u2500" * 74,
        "no attack 400 0.500 0.480 +0.020 [-0.030, +0.070] 0.031 LoRA less accurate",
        "difference with 95 % interval: above 0, the candidate is worse off",
        "p adj.: by Holm over the comparisons of one family",
        "warning: a warning",
        "pair-0: Both collapse under attack. LoRA is more fragile than full fine-tuning",
        "  in 1 of 2 comparisons.",
        "  Clearest: swap on set, where full fine-tuning keeps 50.0 % and LoRA 40.0 %:",
        "    +10.0 points (95 % interval +5.1 to +14.9, adjusted p < 0.001, n = 400).",
        "  Of 348 examples both have right, 50.0 % break under full fine-tuning and",
        "    48.0 % under LoRA: +2.0 points (95 % interval \u22123.0 to +7.0, adjusted",
        "    p = 0.800).",
        "  Effort, the worst case over all attacks on set: LoRA breaks with less in",
        "    48.0 % and full fine-tuning in 50.0 % of 300 examples both have right (ties",
        "    half): +2.0 points (95 % interval \u22123.0 to +7.0, adjusted p = 0.800).",
        "  One training seed: this compares two checkpoints, not two methods.",
        "  In 1 of 2 comparisons: both arms are nearly always broken: compare the effort.",
    ]
    assert lines[-1].startswith("page: ")


def test_where_room_is_short_names_give_way_and_no_number(planted: Any, run_writer: Any) -> None:
    names = [f"an-attack-of-a-long-name-{i}" for i in range(3)]
    rows = [
        planted.row(attack=name, testset=testset, n=12_345, difference=-0.1234, low=-0.2, high=-0.05) | CHANGED
        for name in names
        for testset in ("adversarial-set-of-a-long-name", "short")
    ]
    record = run_writer.record()
    prompted = [
        c.model_copy(update={"adaptation": "prompt"}) if c.name == "lora-0" else c for c in record.checkpoints
    ]

    lines = screen(record.model_copy(update={"checkpoints": tuple(prompted)}), planted.table(*rows))

    tabled = [line for line in lines if "[-0.200, -0.050]" in line]
    assert len(tabled) == 6
    assert all("12345 0.500  0.480 -0.123 [-0.200, -0.050]  0.012" in line for line in tabled)
    assert all(len(line) <= 80 for line in lines[:-2]) and "\u2026" not in "".join(lines)


CHANGED = {"p_adjusted": 0.0112, "verdict": "peft-more-fragile", "reason": "success-rate-opposes"}


def test_test_sets_as_they_stand_share_a_table(planted: Any, run_writer: Any) -> None:
    rows = [planted.row(testset=f"advglue-{i}", attack="none", metric="accuracy") for i in range(3)]

    lines = screen(run_writer.record(), planted.table(*rows))

    assert [line.split()[0] for line in lines if "[-0.030" in line] == ["advglue-0", "advglue-1", "advglue-2"]
    assert lines.count("planned comparisons") == 1


def test_methods_stand_beside_each_other_place_by_place_and_their_answers_come_last(
    planted: Any, run_writer: Any
) -> None:
    over = [
        planted.row(pair=f"sst2 {method}, 3 seeds", method=method, attack=attack, n_seeds=3)
        | {"seed_share": 0.6 if attack == "swap" else 0.1, "seed_sd": 0.1, "seed_sd_low": 0.05, "seed_sd_high": 0.2}
        for method in ("lora", "ia3")
        for attack in ("swap", "other")
    ]
    record = run_writer.record(seeds=4)
    adapted = {"lora-2": "ia3", "lora-3": "ia3"}
    checkpoints = tuple(
        c.model_copy(update={"adaptation": adapted.get(c.name, c.adaptation)}) for c in record.checkpoints
    )

    lines = screen(record.model_copy(update={"checkpoints": checkpoints}), planted.table(planted.row(), *over), 120)

    table = lines[lines.index("over training seeds: sst2 lora, 3 seeds; sst2 ia3, 3 seeds") :]
    assert table[2].split()[:5] == ["method", "attack", "n", "full", "PEFT"]
    assert [line.split()[1:5] for line in table[4:8]] == [
        ["lora,", "3", "seeds", "swap"],
        ["ia3,", "3", "seeds", "swap"],
        ["lora,", "3", "seeds", "other"],
        ["ia3,", "3", "seeds", "other"],
    ]
    assert "  sst2 lora, 3 seeds | set | swap: 0.100 [0.050, 0.200], 60%" in lines
    heads = [line for line in lines if line.startswith(("pair-", "sst2")) and ":" in line]
    assert heads == [
        "pair-0: Neither collapses under swap. Which of the two is weaker, this run",
        "pair-1: Nothing has been compared yet.",
        "pair-2: Nothing has been compared yet.",
        "pair-3: Nothing has been compared yet.",
        "sst2 lora, 3 seeds: Neither collapses under attack. Which of the two is weaker,",
        "sst2 ia3, 3 seeds: Neither collapses under attack. Which of the two is weaker,",
    ]


@pytest.mark.parametrize("width", [30, 40, 60])
def test_on_a_narrow_terminal_rows_stand_below_each_other_with_names_and_numbers_whole(
    planted: Any, run_writer: Any, width: int
) -> None:
    name, testset = "an-attack-of-a-name", "a-set-of-a-name"
    rows = [
        planted.row(attack=name, testset=testset, difference=-0.1234, low=-0.2, high=-0.05) | CHANGED,
        planted.row(**CONTROL),
    ]

    lines = screen(run_writer.record(), planted.table(*rows), width)

    start = lines.index(name)
    end = lines.index("no attack")
    block = " ".join(" ".join(line.split()) for line in lines[start:end])
    assert block.startswith(
        f"{name} n 400 full 0.500 LoRA 0.480 difference -0.123 [-0.200, -0.050] p adj. 0.012 verdict"
    )
    assert all(len(line) <= width for line in lines[:-2]) and "\u2026" not in "".join(lines)


def test_at_forty_columns_the_screen_word_for_word(planted: Any, run_writer: Any) -> None:
    lines = screen(run_writer.record(), planted.table(planted.row(**FRAGILE, candidate_value=0.4)), 40)

    assert lines[:12] == [
        "pair pair-0: LoRA (candidate) beside",
        "  full fine-tuning (reference)",
        "clean accuracy before the run: full",
        "  0.900, LoRA 0.900, majority class",
        "  0.500 (n = 100)",
        "planned comparisons on set",
        "swap",
        "  n 400  full 0.500  LoRA 0.400",
        "  difference +0.100 [+0.051, +0.149]",
        "  p adj. <0.001",
        "  verdict LoRA more fragile",
        "difference with 95 % interval: above 0,",
    ]


def test_two_runs_side_by_side_fit_a_narrow_terminal_too() -> None:
    cell = {"checkpoint": "a-checkpoint-of-a-name", "testset": "set", "attack": "swap", "n": 20, "change": "lower"}
    numbers = {"value_a": 0.5, "value_b": 0.25, "difference": 0.25, "low": 0.1, "high": 0.4, "p_adjusted": 0.01}
    compared = RunComparison((), pd.DataFrame([cell | numbers]), (), ())
    written = StringIO()
    console = Console(width=40, file=written, highlight=False)

    for part in render_comparison(compared):
        console.print(part, soft_wrap=isinstance(part, str))

    assert written.getvalue().splitlines()[:5] == [
        "a-checkpoint-of-a-name | set | swap",
        "  n 20  A 0.500  B 0.250",
        "  A - B +0.250 [+0.100, +0.400]",
        "  p adj. 0.010  B is lower",
        "A - B on the examples both runs have,",
    ]


def test_what_probes_measured_fits_a_narrow_terminal_too() -> None:
    words = [Column(name, is_number=False) for name in ("kind", "norm", "radius")]
    table = FittingTable([Column("number", is_name=True), *words, Column("full"), Column("LoRA")], padding=1)
    table.rows.append(["adversarial-distance relative-distance", "upper bound", "l2", "", "0.1234*", "-"])
    written = StringIO()

    Console(width=40, file=written).print(table)

    assert written.getvalue().splitlines() == [
        "adversarial-distance relative-distance",
        "  kind upper bound  norm l2",
        "  full 0.1234*  LoRA -",
    ]


def test_a_name_longer_than_the_terminal_is_broken_and_not_cut() -> None:
    table = FittingTable([Column("attack", is_name=True), Column("n")], rows=[["x" * 50, "4"]])
    written = StringIO()
    console = Console(width=40, file=written)

    console.print(Sentence("y" * 50))
    table.columns = [*table.columns, Column("difference", min_width=40)]
    table.rows = [["x" * 50, "4", "0"]]
    console.print(table)

    assert written.getvalue().count("x") == written.getvalue().count("y") == 50


def test_a_users_own_questions_are_measured_by_f1(planted: Any, run_writer: Any) -> None:
    record = run_writer.record()
    own = replace(find_task("squad"), name="mine")
    pairs = tuple(pair.model_copy(update={"task": "mine"}) for pair in record.pairs)

    lines = screen(record.model_copy(update={"tasks": (own,), "pairs": pairs}), planted.table(planted.row()))

    said = next(line for line in lines if line.startswith("clean "))
    assert said.startswith("clean F1 before the run: ")
    assert "majority class" not in " ".join(lines)


def test_names_of_probes_fold_after_hyphens_and_never_inside_a_word() -> None:
    """Where no word had room, each was cut to eight letters a line."""
    name = Column("number", is_name=True)
    table = FittingTable([name, Column("n"), Column("ratio", min_width=30)])
    table.rows.append(["adversarial-distance relative-distance, l2", "12", "0.96 [0.91, 1.1]"])
    written = StringIO()

    Console(width=50, file=written).print(table)

    lines = written.getvalue().splitlines()
    assert [line[:13].rstrip() for line in lines[2:]] == ["adversarial-", "distance", "relative-", "distance, l2"]


def test_words_that_fold_beside_a_name_leave_the_name_whole() -> None:
    """The table's maker narrowed both by some columns, and the name lost its last letter to a line of its own."""
    verdict = Column("verdict", is_number=False, min_width=12)
    columns = [Column("test set", is_name=True), Column("difference"), verdict]
    table = FittingTable(columns, rows=[["viggo-counterfactual", "+15.6 [-49.1, +79.1]", "inconclusive (two seeds)"]])

    written = StringIO()

    Console(width=60, file=written).print(table)

    assert "viggo-counterfactual " in written.getvalue()
    assert all(len(line) <= 60 for line in written.getvalue().splitlines())


def test_output_that_is_no_terminal_is_eighty_columns_wide() -> None:
    assert PIPE_WIDTH == 80
