"""How a run ends on the terminal, from planted rows of pairs.csv."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from robustness.definitions.catalog import ATTACKS, SUITES, TESTSETS
from robustness.reports.report import Report
from robustness.reports.summaries.ending import MOST_HEADLINES, render_ending
from robustness.reports.summaries.fitting import PIECES
from robustness.reports.summaries.shown_comparisons import MOST_ROWS
from robustness.reports.tables.columns import COLUMNS, Table
from robustness.runs.storage.record import RunRecord

FRAGILE = {"difference": 0.1, "low": 0.0512, "high": 0.1488, "p_adjusted": 0.0004, "verdict": "peft-more-fragile"}
CLEAN = {"attack": "none", "metric": "accuracy", "family": None, "p_adjusted": None, "p_value": 0.03}


def screen(record: RunRecord, width: int = 80, warnings: tuple[str, ...] = (), **given: pd.DataFrame) -> list[str]:
    """The lines of the terminal."""
    tables = {table: pd.DataFrame(columns=[column.name for column in COLUMNS[table]]) for table in Table}
    tables |= {Table(name): frame for name, frame in given.items()}
    every = record.model_copy(update={"testsets": (), "warnings": warnings})
    written = StringIO()
    console = Console(width=width, file=written, highlight=False)
    for part in render_ending(Report(Path("out"), every, tables)):
        console.print(part, soft_wrap=isinstance(part, str))
    return [line.rstrip() for line in written.getvalue().splitlines()]


def rows_of(lines: list[str]) -> list[str]:
    return [line for line in lines if "[" in line and not line.startswith(" ")]


def test_the_screen_word_for_word(planted: Any, run_writer: Any) -> None:
    """An interval that leaves the margin never reads as if it ended on it; what all rows share is said once."""
    floor = {"reference_value": 0.02, "candidate_value": 0.03, "difference": -0.01, "reason": "floor"}
    pairs = planted.table(
        planted.row(**FRAGILE, candidate_value=0.4),
        planted.row(attack="worst-case", **floor, low=-0.0241, high=0.0199),
        planted.row(metric="attack_success_rate", population="both_correct", family="secondary", n=348, verdict=None),
        planted.row(**CLEAN, reference_value=0.9, candidate_value=0.88, verdict="inconclusive"),
    )

    assert screen(run_writer.record(), pairs=pairs) == [
        "Both collapse under attack. LoRA is more fragile than full fine-tuning in 1 of 2",
        "  comparisons.",
        "right answers in %, on set, n = 400; difference in points with 95 % interval:",
        "attack     full LoRA          difference verdict",
        "\u2500" * 61,
        "no attack  90.0 88.0   +2.0 [\u22123.0, +7.0] inconclusive",
        "swap       50.0 40.0 +10.0 [+5.1, +14.9] LoRA more fragile",
        "worst-case  2.0  3.0   \u22121.0 [\u22122.5, +2.0] inconclusive (floor)",
        "difference above 0: LoRA is worse off",
        "more: robustness report out --verbose",
        "page: out/report.html",
    ]


def test_what_differs_from_row_to_row_has_a_column_and_a_method_its_name(planted: Any, run_writer: Any) -> None:
    rows = [
        planted.row(pair=f"pair-{seed}", testset=testset, n=100 + seed) for seed in (0, 1) for testset in ("a", "b")
    ]

    lines = screen(run_writer.record(seeds=2), pairs=planted.table(*rows))

    assert [line.split(":")[0] for line in lines if line.startswith("pair-") and ":" in line] == ["pair-0", "pair-1"]
    assert next(line.split() for line in lines if "verdict" in line)[:5] == ["pair", "test", "set", "attack", "n"]
    assert [line.split()[:4] for line in rows_of(lines)] == [
        [f"pair-{seed}", testset, "swap", str(100 + seed)] for seed in (0, 1) for testset in ("a", "b")
    ]


def test_a_pair_without_pooled_rows_has_its_headline_and_its_comparisons(planted: Any, run_writer: Any) -> None:
    singles = [planted.row(pair=f"pair-{seed}") for seed in range(4)]
    pairs = planted.table(*singles, planted.row(pair="sst2 lora, 3 seeds", n_seeds=3))

    lines = screen(run_writer.mixed(), pairs=pairs)

    said = [line.split(":")[0] for line in lines if line.startswith(("pair-", "sst2")) and ":" in line]
    assert said == ["sst2 lora, 3 seeds", "pair-3"]
    assert [line.split("swap")[0].strip() for line in rows_of(lines)] == ["sst2 lora, 3 seeds", "pair-3"]


def test_of_many_comparisons_twelve_are_shown_and_the_rest_is_counted(planted: Any, run_writer: Any) -> None:
    attacks = [f"attack-{i}" for i in range(5)]
    few = [planted.row(attack=a, testset=t) for t in "abc" for a in (*attacks, "worst-case")]
    many = [planted.row(testset=f"set-{i}", difference=i / 100) for i in range(20)]

    strongest = screen(run_writer.record(), pairs=planted.table(*few))
    largest = screen(run_writer.record(), pairs=planted.table(*many))

    assert [line.split()[:2] for line in rows_of(strongest)] == [[name, "worst-case"] for name in "abc"]
    assert "difference above 0: LoRA is worse off; 3 of 18 comparisons" in strongest
    assert [line.split()[0] for line in rows_of(largest)] == [f"set-{i}" for i in range(19, 19 - MOST_ROWS, -1)]
    assert "difference above 0: LoRA is worse off; 12 of 20 comparisons" in largest


def test_of_many_pairs_and_warnings_the_first_are_said_and_the_others_counted(planted: Any, run_writer: Any) -> None:
    rows = planted.table(*(planted.row(pair=f"pair-{i}") for i in range(9)))
    warnings = tuple(f"warning number {i}" for i in range(5))

    lines = screen(run_writer.record(seeds=9), pairs=rows, warnings=warnings)

    assert lines[:3] == ["warning: warning number 0", "warning: warning number 1", "warnings: 3 more on the page"]
    assert sum(line.startswith("pair-") and ":" in line for line in lines) == MOST_HEADLINES
    assert "and 3 more: see the page" in lines


def test_probes_are_counted_and_not_listed(planted: Any, run_writer: Any) -> None:
    directions = ["candidate-more-sensitive"] * 2 + ["reference-more-sensitive", "no-difference-found", "neutral"]
    numbers = pd.DataFrame({"probe": "margin", "direction": directions, "layer": None, "module": None})

    lines = screen(run_writer.record(), pairs=planted.table(planted.row()), sensitivity_pairs=numbers)

    assert " ".join(line.strip() for line in lines[-4:-2]) == (
        "probes: of 4 numbers that support a claim, LoRA is more sensitive in 2, full fine-tuning in 1"
    )
    assert "margin" not in "".join(lines)


def test_without_a_planned_comparison_the_controls_are_shown(planted: Any, run_writer: Any) -> None:
    lines = screen(run_writer.record(), pairs=planted.table(planted.row(**CLEAN)))

    assert lines[0].startswith("No attack and no adversarial test set")
    assert [line.split()[:2] for line in rows_of(lines)] == [["no", "attack"]]


LONG = ("advsquad-addanyextend", "viggo-counterfactual", "deepwordbug", "hotflip-vocabulary", "textattack:Pruthi2019")


def pieces(name: str) -> list[str]:
    """What may stand on lines of its own."""
    return [piece.strip() for piece in PIECES.findall(name) if piece.strip()]


@pytest.mark.parametrize("suite", SUITES.names())
def test_at_eighty_columns_every_suites_names_are_whole_words_and_no_number_is_cut(
    suite: str, planted: Any, run_writer: Any
) -> None:
    definition = SUITES.find(suite).definition
    testsets = [name for name in definition.testsets if name in TESTSETS.names()] or ["set"]
    attacks = [name for name in definition.attacks if name in ATTACKS.names()] or ["deepwordbug"]
    numbers = {"n": 12_345, "reference_value": 1.0, "candidate_value": 0.8766, "difference": -0.1234, "low": -0.2}
    for start in range(0, len(testsets) * len(attacks), MOST_ROWS):
        places = [(testset, attack) for testset in testsets for attack in attacks][start : start + MOST_ROWS]
        rows = [planted.row(testset=t, attack=a, **(numbers | {"n": 12_345 + i})) for i, (t, a) in enumerate(places)]

        lines = screen(run_writer.record(), pairs=planted.table(*rows))

        check_whole(lines, [each for place in places for each in place])


def check_whole(lines: list[str], names: list[str]) -> None:
    """Asserts that a screen of 80 columns has every part of every name on one line, and every number."""
    assert max(map(len, lines)) <= 80
    shown = set(re.split(r"[\s,;.]+", "\n".join(lines)))
    joined = {word for word in shown for word in (word, *pieces(word))}
    assert {piece for name in names for piece in pieces(name)} <= joined
    assert "\u2026" not in "".join(lines)
    assert sum("\u221212.3 [\u221220.0," in line for line in lines) >= 1


@pytest.mark.parametrize("width", [80, 40])
def test_long_names_of_pairs_and_settings_fold_between_words(planted: Any, run_writer: Any, width: int) -> None:
    """A setting above an arm's numbers was cut into pieces of eight letters."""
    name = "2026-11-llama-3.2-1b-instruct-qlora-r64-alpha128-seed3-epoch2"
    record = run_writer.record(seeds=2)
    renamed = [pair.model_copy(update={"name": f"{name}-{i}"}) for i, pair in enumerate(record.pairs)]
    settings = {"full-0": "0.0003", "lora-0": "0.00003", "full-1": "0.0003", "lora-1": "0.00003"}
    arms = tuple(
        c.model_copy(update={"adaptation": "lora", "settings": {"learning_rate": settings[c.name]}})
        for c in record.checkpoints
    )
    rows = [
        planted.row(pair=f"{name}-{i}", testset=testset, attack=attack, difference=-0.1234, low=-0.2, high=-0.05)
        for i in (0, 1)
        for testset, attack in zip(LONG, LONG[::-1], strict=True)
    ]

    named = record.model_copy(update={"pairs": tuple(renamed), "checkpoints": arms})
    lines = screen(named, width, pairs=planted.table(*rows))

    text = "\n".join(lines[:-2])
    assert all(len(line) <= width for line in lines[:-2])
    assert all(piece in text for each in (name, *LONG) for piece in pieces(each))
    assert "learning_rate=0.0003" in text.replace("\n", "").replace(" ", "")
    assert text.count("\u221212.3 [\u221220.0, \u22125.0]") == len(rows)
