from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from robustness import RunSettings, api
from robustness.cli import main
from robustness.reports.summaries.run_facts import run_facts
from robustness.runs.planning.foresight import Assumptions, PlannedSet, count_seeds, describe_power, read_rarer_share
from robustness.runs.storage.record import read_record

WIDTH = 80


def test_the_lines_say_gaps_equality_and_seeds_once_for_each_number_of_examples() -> None:
    sets = [
        PlannedSet("sst2", 148, 4),
        PlannedSet("qqp", 78, 2),
        PlannedSet("qnli", 148, 4),
        PlannedSet("rte", 81, 0),
    ]

    lines = list(describe_power(sets, 1))

    assert lines == [
        "what this run can show (gaps in points of accuracy, found with power .80):",
        "  n = 78, 2 tests a pair: 19.0; over 3, 5, 10 seeds 14.6, 9.6, 8.4",
        "  n = 148, 4 tests a pair: 13.5; over 3, 5, 10 seeds 14.8, 8.0, 6.7",
        "  equality within 2 points: about 2,700 examples",
        "  a claim about a method: 3 training seeds or more; here 1",
        "  n counts groups where rows share a source; level 0.05 / tests of a pair",
        "  assumed: the worse arm alone is right on 5.0 % of the examples",
        "  assumed: between seeds, differences have a standard deviation of 1 point",
    ]
    assert max(map(len, lines)) <= WIDTH


def test_the_tests_of_a_task_are_one_family_whatever_their_sets() -> None:
    lines = list(describe_power([PlannedSet("mnli", 121, 1), PlannedSet("mnli", 162, 1)], 0))

    assert [line.split(":")[0] for line in lines[1:3]] == ["  n = 121, 2 tests a pair", "  n = 162, 2 tests a pair"]
    assert "  a claim about a method: 3 training seeds or more; here none is named" in lines


def test_a_pilots_share_and_the_readers_margin_are_used_and_said() -> None:
    lines = list(describe_power([PlannedSet("sst2", 5, 1)], 3, Assumptions(0.1, from_pilot=True, margin=0.05)))

    assert lines[1].startswith("  n = 5, 1 test a pair: none; over")
    assert "  equality within 5 points: about 850 examples" in lines
    assert "  counted in the pilot: the worse arm alone is right on 10.0 % of the examples" in lines


def test_a_plan_of_controls_alone_compares_nothing() -> None:
    assert list(describe_power([PlannedSet("sst2", 872, 0)], 3)) == [
        "no comparison under attack is planned: clean sets and baselines are controls"
    ]


def test_seeds_are_counted_once_and_not_over_tasks() -> None:
    assert count_seeds([("sst2", "b", seed) for seed in (0, 0, 0, 0, 1)] + [("rte", "b", 7)]) == 2


def foretell(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["robustness", "run", *words, "--limit", "24", "--dry-run", "--tflops", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    shown = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith(("what this", "no comp")))
    return [line for line in shown[start:] if line.startswith(("what this", "no comp", "  "))]


@pytest.fixture(scope="module")
def pilot(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of all 24 examples under an attack, a baseline and a control."""
    settings = {"data": tiny.data, "testsets": [str(tiny.testset)], "device": "cpu", "limit": 24}
    attacks = ["deepwordbug", "random-chars", "identity"]
    return api.run(
        "smoke", tiny.pairs, tmp_path_factory.mktemp("pilot") / "run", RunSettings(attacks=attacks, **settings)
    )


def test_a_dry_run_and_the_page_say_the_same_of_a_plan(
    tiny: Any, pilot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]
    words += ["--out", str(tmp_path / "run"), "--attack", "random-chars", "--attack", "identity"]

    controls = foretell(words, monkeypatch, capsys)
    planned = foretell([*words, "--attack", "deepwordbug"], monkeypatch, capsys)
    told = dict(run_facts(read_record(pilot.folder)))["what it could show"]

    assert controls == ["no comparison under attack is planned: clean sets and baselines are controls"]
    assert planned == list(describe_power([PlannedSet("sst2", 24, 1)], 1))
    assert told == "; ".join(line.strip() for line in planned).replace(":; ", ": ")


def test_the_share_of_a_pilot_is_that_of_its_stored_rows(tiny: Any, pilot: Any) -> None:
    with sqlite3.connect(pilot.folder / "run.sqlite") as connection:
        rows = connection.execute("SELECT checkpoint, attack, example_id, status, correct FROM outcomes").fetchall()
    right = {
        (checkpoint, attack, example): bool(correct) if attack == "none" else status == "failed"
        for checkpoint, attack, example, status, correct in rows
    }
    both = [(good, right["lora", attack, e]) for (arm, attack, e), good in right.items() if arm == "full"]
    only = sum(f and not p for f, p in both), sum(p and not f for f, p in both)

    assert read_rarer_share(pilot.folder) == pytest.approx((min(only) + 1) / (len(both) + 2))
