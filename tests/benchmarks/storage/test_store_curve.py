"""How the store grows: writing, resuming, counting and reading synthetic outcomes, size after size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
SIZES = [int(size) for size in os.environ.get("ROBUSTNESS_CURVE_ROWS", "100000,300000,1000000,3000000").split(",")]
MOST_READ = 1_000_000
"""Rows that are read into one frame: above, the reader's memory is what ends."""
TARGET = 100_000_000
STEP = """
import json, sys, time
from pathlib import Path
from robustness.runs.cells import Cell
from robustness.engine.outcome import Outcome, Status
from robustness.runs.storage.store import FILE_NAME, Store, read_outcomes

what, folder, rows, cell_rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), 1000
TEXT = "it 's a charming and often affecting journey , and one of the best films of the year so far . "


def outcome(number):
    text = f"{TEXT}{number}"
    return Outcome(
        example_id=f"sst2:{number}", group_id=f"sst2:{number}", clean_correct=True, correct=not number % 3,
        clean_quality=0.93125, quality=0.25, clean_response="positive", response="negative", gold="positive",
        status=Status.SUCCEEDED if number % 3 else Status.FAILED, queries=40, forwards=42, modified_words=2,
        modified_share=0.1, similarity=0.95, seconds=0.01, original_text=(text,),
        adversarial_text=(text.replace("best", "bset"),),
    )


def timed(action):
    wall, processor = time.perf_counter(), time.process_time()
    found = action()
    return found, round(time.perf_counter() - wall, 3), round(time.process_time() - processor, 3)


def cell(number):
    return Cell(f"checkpoint-{number // 100:03d}", "sst2", f"attack-{number % 100:02d}")


figures = {}
if what == "write":
    store, made = Store(folder), [outcome(number) for number in range(cell_rows)]
    def write():
        for number in range(rows // cell_rows):
            for start in range(0, cell_rows, 100):
                store.add(cell(number), made[start : start + 100])
    _, figures["seconds"], figures["processor_seconds"] = timed(write)
    store.close()
    figures["megabytes"] = round((folder / FILE_NAME).stat().st_size / 2**20, 1)
if what == "resume":
    store = Store(folder)
    found, figures["seconds"], _ = timed(lambda: store.finished(cell(rows // cell_rows // 2)))
    assert len(found) == cell_rows
if what == "count":
    store = Store(folder)
    found, figures["seconds"], figures["processor_seconds"] = timed(store.count_successes)
    assert len(found) == rows // cell_rows
if what == "read":
    frame, figures["seconds"], figures["processor_seconds"] = timed(lambda: read_outcomes(folder))
    assert len(frame) == rows
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of this program alone
figures["peak_megabytes"] = round(int(peak.split()[1]) / 1024, 1)
print(json.dumps(figures))
"""


def measure(what: str, folder: Path, rows: int) -> dict[str, float]:
    """One step in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-c", STEP, what, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def extrapolate(curve: dict[str, Any], step: str, figure: str) -> float:
    """The straight line through the measured sizes, at TARGET rows: an extrapolation far beyond them."""
    points = [(int(rows), steps[step][figure]) for rows, steps in curve.items() if figure in steps.get(step, {})]
    slope, intercept = np.polyfit([rows for rows, _ in points], [value for _, value in points], 1)
    return float(intercept + slope * TARGET)


def test_the_store_grows_in_proportion(tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]) -> None:
    curve: dict[str, Any] = {}
    for rows in SIZES:
        folder = tmp_path / str(rows)
        folder.mkdir()
        steps = ["write", "resume", "count", *(["read"] if rows <= MOST_READ else [])]
        curve[str(rows)] = {what: measure(what, folder, rows) for what in steps}
        print(rows, curve[str(rows)], flush=True)
        (folder / "run.sqlite").unlink()
    guesses = [
        ("write", "processor_seconds"),
        ("write", "megabytes"),
        ("count", "processor_seconds"),
        ("read", "processor_seconds"),
        ("read", "peak_megabytes"),
    ]
    figures = {
        "measured": curve,
        f"extrapolated_to_{TARGET}_rows": {f"{a}_{b}": round(extrapolate(curve, a, b), 1) for a, b in guesses},
    }

    save_result("store_curve", figures)

    each = [steps["write"]["megabytes"] / int(rows) for rows, steps in curve.items()]
    assert max(each) < 1.2 * min(each)
    assert all(steps["resume"]["seconds"] < 0.5 for steps in curve.values())
