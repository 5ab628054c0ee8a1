"""The cost model against a real run: forwards and processor seconds foretold, and counted."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness import RunSettings, api
from robustness.runs.planning.cost import REPLAYS, Costing
from robustness.runs.planning.estimate import CellCost
from robustness.runs.planning.rows import read_draft
from robustness.runs.run import execute

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
EXAMPLES = int(os.environ.get("ROBUSTNESS_COST_EXAMPLES", "32"))
ATTACKS = ["deepwordbug", "pwws", "fgsm"]
TOLERANCE = 0.2


def plan(pairs: Path, data: Path, limit: int) -> Any:
    return api.plan(
        "attacks-quick", pairs, RunSettings(data=data, testsets=["sst2"], attacks=ATTACKS, limit=limit, device="cpu")
    )


def read_counted(folder: Path) -> dict[str, float]:
    """Of all cells; a backward pass counts as it does in the model, and `seconds` are processor seconds here."""
    query = (
        "SELECT SUM(forwards), SUM(COALESCE(backwards, 0)), SUM(seconds), "
        "SUM(attack != 'none' AND status = 'succeeded') FROM outcomes"
    )
    with sqlite3.connect(folder / "run.sqlite") as connection:
        forwards, backwards, seconds, successes = connection.execute(query).fetchone()
    return {"forwards": forwards + REPLAYS * successes, "backwards": backwards, "processor_seconds": seconds}


def total(cells: tuple[CellCost, ...], figure: str) -> float:
    return sum(getattr(cell, figure) for cell in cells)


def test_a_real_run_costs_what_was_foretold(
    minilm_pair: Path,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_result: Callable[[str, dict[str, Any]], None],
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # stored seconds: those of an idle machine
    made = plan(minilm_pair, shared_data, EXAMPLES)
    costing = Costing(read_draft(made))
    rate = costing.measure(seconds=4.0, clock=time.process_time)
    execute(made, tmp_path / "run")
    counted = read_counted(tmp_path / "run")
    figures: dict[str, Any] = {"examples": EXAMPLES, "attacks": ATTACKS, "counted": counted}
    figures["gigaflops_a_processor_second"] = round(rate.flops / 1e9, 2)
    cells = costing.estimate().cells
    foretold = {"forwards": total(cells, "forwards"), "backwards": total(cells, "backwards")}
    foretold["processor_seconds"] = total(cells, "flops") / rate.flops
    ratios = {kind: round(foretold[kind] / counted[kind], 3) for kind in ("forwards", "processor_seconds")}
    figures |= {
        "foretold": {kind: round(value, 1) for kind, value in foretold.items()},
        "foretold_over_counted": ratios,
    }

    save_result("cost", figures)

    assert all(abs(ratio - 1) <= TOLERANCE for ratio in ratios.values())
