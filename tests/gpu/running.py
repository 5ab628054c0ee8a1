"""Steps on whole runs: workers that share one GPU find what one process finds."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

from gpu.attacks import EDITS
from gpu.bench import Bench
from gpu.steps import Found, Step, require
from robustness.victims.batches import recover_memory

ATTACKS = ("deepwordbug", "pgd")
PROBES = ("margin-gradient", "update-structure")
COMPARED = ("checkpoint", "testset", "attack", "example_id", "status", "adversarial_text", "queries")
ALIKE = 0.98
"""The least share of rows that are the same: shards make other batches, whose last digits differ."""
CLOSE = 1e-3
"""The largest relative difference of what a probe measures in another process, on the same batches."""


def workers_agree(bench: Bench) -> Found:
    """A run in this process, and again by two workers; on CUDA both have the one GPU."""
    alone, seconds_alone = _run(bench, "alone", None)
    shared, seconds_shared = _run(bench, "shared", 2)
    require(alone.keys() == shared.keys(), f"{len(alone)} rows by one process, {len(shared)} by two workers")
    errored = sum(row["status"] == "errored" for row in (*alone.values(), *shared.values()))
    require(errored == 0, f"{errored} rows errored")
    same = sum(alone[key] == shared[key] for key in alone)
    require(same >= ALIKE * len(alone), f"{len(alone) - same} of {len(alone)} rows differ")
    ours, theirs = (_read_values(bench.folder / name) for name in ("alone", "shared"))
    require(ours.keys() == theirs.keys(), f"{len(ours)} measurements by one process, {len(theirs)} by two workers")
    far = [key for key in ours if abs(ours[key] - theirs[key]) > CLOSE * max(abs(ours[key]), CLOSE)]
    require(not far, f"{len(far)} of {len(ours)} measurements differ, such as {far[:1]}")
    figure = (
        f"{len(alone) - same} of {len(alone)} rows differ; {seconds_alone:.0f} s alone, {seconds_shared:.0f} s by two"
    )
    return Found(figure, {"rows": len(alone), "same": same, "seconds": [seconds_alone, seconds_shared]})


def _run(bench: Bench, name: str, workers: int | None) -> tuple[dict[Any, dict[str, Any]], float]:
    """Rows by checkpoint, test set, attack and example, and the seconds that the run took."""
    from robustness.runs.planning.plan import PlanSettings, make_plan
    from robustness.runs.run import execute
    from robustness.workers.execution import Execution

    world, out = bench.world, bench.folder / name
    settings = PlanSettings(
        suite="smoke",
        pairs=world.pairs,
        data=world.folder,
        testsets=(str(world.testset),),
        attacks=ATTACKS,
        probes=PROBES,
        limit=max(8, bench.size.examples // 4),
        device=bench.device.type,
    )
    recover_memory()  # the workers share the device with this process
    one = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    started = time.perf_counter()
    with mock.patch("robustness.workers.pool._visible_devices", lambda: [one, one]):
        execute(make_plan(settings), out, None, Execution(workers=workers))
    return _read(out), time.perf_counter() - started


def _read(out: Path) -> dict[Any, dict[str, Any]]:
    with closing(sqlite3.connect(out / "run.sqlite")) as connection:
        rows = connection.execute(f"SELECT {', '.join(COMPARED)} FROM outcomes").fetchall()
    return {row[:4]: dict(zip(COMPARED, row, strict=True)) for row in rows}


def _read_values(out: Path) -> dict[Any, float]:
    key = "checkpoint, testset, probe, number"
    with closing(sqlite3.connect(out / "run.sqlite")) as connection:
        rows = connection.execute(f"SELECT {key}, value FROM measurements WHERE value IS NOT NULL").fetchall()
    return {row[:4]: row[4] for row in rows}


STEPS: tuple[Step[Bench], ...] = (Step("workers on one GPU", workers_agree, EDITS, seconds=120.0),)
