"""What a run counts: everything that it will do, and nothing that it will not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robustness import RunSettings, api
from robustness.progress import Progress
from robustness.runs.cells import UNTUNED, Cell, ProbeCell
from robustness.runs.workload import CHECKING, Load, Transfer, Workload


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def start(tiny: Any, out: Path, suite: str = "smoke", **options: Any) -> list[Progress]:
    """Runs the tiny pair; returns all that its progress told."""
    told: list[Progress] = []
    given = {"data": tiny.data, "testsets": [str(tiny.testset)], "attacks": ["deepwordbug"], "limit": 6} | options
    on_progress = given.pop("on_progress", told.append)
    api.run(suite, tiny.pairs, out, RunSettings(**given), on_progress=on_progress)
    return told


def test_replays_and_probes_are_counted_in_a_total_that_never_changes(tiny: Any, tmp_path: Path) -> None:
    """It stood at the last example of the attacks through all replays and probes."""
    told = start(tiny, tmp_path / "run", probes=["margin", "update-structure"])

    examples, transfers, probed = 2 * 2 * 6, 2 * 2, 2 * (6 + 1)
    assert {each.total for each in told} == {examples + transfers + probed}
    gate = [each for each in told if CHECKING in each.message]
    assert [each.message for each in gate] == [CHECKING, f"full | {CHECKING}", f"lora | {CHECKING}"]
    assert [each.cell and (each.cell.done, each.cell.total) for each in gate] == [None, (0, 2), (1, 2)]
    assert told[: len(gate)] == gate and told[-1].done == told[-1].total
    counts = [each.done for each in told]
    assert counts == sorted(counts)
    probes = [each.done for each in told if each.message.endswith("| margin")]
    assert probes == [25, 31, 32, 38]  # three replays are left, which were ready after the probes
    assert any(each.message == f"lora -> {UNTUNED} | tiny | deepwordbug" for each in told)


def test_what_an_earlier_run_has_done_is_counted_as_done(tiny: Any, tmp_path: Path) -> None:
    class InterruptionError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.message == "lora | tiny | margin":
            raise InterruptionError

    with pytest.raises(InterruptionError):
        start(tiny, tmp_path / "run", probes=["margin"], on_progress=stop)
    told = start(tiny, tmp_path / "run", probes=["margin"])

    assert (told[0].done, told[-1].done) == (31, 40)
    assert {each.total for each in told} == {40}


def test_rows_that_are_not_attacked_are_not_in_the_total(tiny: Any, tmp_path: Path) -> None:
    """Of a suite that attacks the rows which both arms have right, the total counted rows that neither attacked."""
    header, *lines = (tiny.data / "tiny" / "dev.tsv").read_text().splitlines()
    wrong = [f"{line[:-1]}{1 - int(line[-1])}" for line in lines[:8]]
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "dev.tsv").write_text("\n".join([header, *wrong, *lines[8:]]) + "\n")
    suite = tmp_path / "few.toml"
    named = [f'testsets = ["{tiny.testset}"]', 'attacks = ["deepwordbug"]', "limit = 24", "attacked = 20"]
    suite.write_text("\n".join(['summary = "Few rows."', *named]) + "\n")

    told = start(tiny, tmp_path / "run", str(suite), attacks=[], testsets=[], limit=None, data=tmp_path)

    assert told[0].total == 2 * (24 + 20 + 2)
    assert told[-1].done == told[-1].total == 2 * (24 + 16 + 2)


def test_a_step_that_was_timed_tells_how_long_those_like_it_take() -> None:
    clock = Clock()
    cells = [Cell(name, "sst2", attack) for name in ("full", "lora") for attack in ("none", "swap")]
    loads = {cell: Load(10, 1.0 if cell.attack == "none" else 20.0) for cell in cells}
    workload = Workload(loads, lambda _: None, clock)

    before = workload.seconds_left()
    clock.now = 5.0
    workload.add(cells[0], 10)
    guessed = workload.seconds_left()
    clock.now = 25.0
    workload.add(cells[1], 10)

    assert before is None
    assert guessed == pytest.approx(0.5 * 10 + 2 * 0.5 * 20 * 10)  # half a second a pass, nothing else known
    assert workload.seconds_left() == pytest.approx(5 + 20)


def test_parts_are_told_by_name_and_finished_whole() -> None:
    told: list[Progress] = []
    probe, transfer = ProbeCell("lora", "", "anatomy"), Transfer(Cell("lora", "sst2", "swap"), "full")
    workload = Workload({probe: Load(1, 1.0), transfer: Load(1, 1.0)}, told.append)

    workload.start(probe)
    workload.finish(probe)
    workload.finish(transfer)

    assert [(each.message, each.done, each.total) for each in told] == [
        ("lora | weights | anatomy", 0, 2),
        ("lora | weights | anatomy", 1, 2),
        ("lora -> full | sst2 | swap", 2, 2),
    ]
