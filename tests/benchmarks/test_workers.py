"""What a second worker gains on the probes of two pairs, and what a probe on a worker costs beyond one in the driver.

All processes have one thread. Wall seconds say something only where nothing else runs beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness.definitions.pairs import read_pairs
from robustness.runs.storage.measurements import read_measurements

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
ROWS = int(os.environ.get("ROBUSTNESS_BENCH_PROBE_ROWS", "64"))
"""Of SST-2, the limit of `probes-quick`. What most of its probes cost is set by their own numbers of examples."""
TIMED = ("margin-gradient", "one-substitution", "reachability")
"""What a worker's probes are compared with this process's by: half a minute an arm."""
GAIN = 1.7
OVERHEAD = 0.02
ROUNDS = 2

SCRIPT = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
from robustness import Execution, RunSettings, api

def processor_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

begun = []

def note(progress):
    if not begun and "checking" not in progress.message:
        begun.append(time.perf_counter())

workers, pairs, data, out, rows, probes = sys.argv[1:]
settings = RunSettings(data=data, testsets=["sst2"], limit=int(rows), device="cpu", probes=json.loads(probes))
execution = Execution(workers=int(workers)) if int(workers) else None
before, started = processor_seconds(), time.perf_counter()
api.run("probes-quick", pairs, out, settings, on_progress=note, execution=execution)
ended = time.perf_counter()
print(json.dumps({"wall_seconds": ended - started, "seconds_after_the_gate": ended - begun[0],
                  "processor_seconds": processor_seconds() - before}))
"""
"""Seconds after the gate include the start of the workers, and the report."""


def twice(pairs: Path, folder: Path) -> Path:
    """A pairs file with a pair and its double, whose checkpoints have names of their own."""
    (pair,) = read_pairs(pairs)
    entries = []
    for number in (1, 2):
        arms = {"full": pair.reference, "peft": pair.candidate}
        for arm, checkpoint in arms.items():
            (folder / f"{arm}-{number}").symlink_to(Path(checkpoint).resolve(), target_is_directory=True)
        places = "".join(f'{arm} = "{folder / f"{arm}-{number}"}"\n' for arm in arms)
        entries.append(
            f'[[pair]]\nname = "pair-{number}"\ntask = "{pair.task.name}"\nbase = "{pair.base}"\nseed = 0\n{places}'
        )
    (folder / "pairs.toml").write_text("\n".join(entries))
    return folder / "pairs.toml"


def seconds_of_probes(run: Path) -> float:
    """What the probes of all cells took, without any start."""
    cells = ["checkpoint", "testset", "probe"]
    return float(read_measurements(run).drop_duplicates(cells)["seconds"].sum())


def run_probes(pairs: Path, data: Path, out: Path, workers: int, probes: Sequence[str] = ()) -> dict[str, Any]:
    """Runs the probes in a process of its own; returns its seconds. No probes: all of the suite."""
    words = [str(workers), str(pairs), str(data), str(out), str(ROWS), json.dumps(probes)]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["seconds_of_probes"] = seconds_of_probes(out)
    print(out.name, figures, flush=True)
    return figures


def require_same_values(runs: Sequence[Path]) -> None:
    first, *others = (read_measurements(run).drop(columns="seconds") for run in runs)
    for other in others:
        pd.testing.assert_frame_equal(first, other)


def test_two_workers_halve_the_time_of_the_quick_probes_of_two_pairs(
    minilm_pair: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """All of `probes-quick`: half an hour."""
    pairs = twice(minilm_pair, tmp_path)
    one, two = (
        run_probes(pairs, shared_data, tmp_path / name, workers) for name, workers in (("one", 1), ("two", 2))
    )
    gain = one["seconds_after_the_gate"] / two["seconds_after_the_gate"]

    save_result(
        "workers_probes",
        {
            "rows": ROWS,
            "one_worker": one,
            "two_workers": two,
            "gain_of_a_second_worker": one["wall_seconds"] / two["wall_seconds"],
            "gain_after_the_gate": gain,
        },
    )

    require_same_values([tmp_path / "one", tmp_path / "two"])
    assert gain >= GAIN


def test_a_probe_on_a_worker_costs_what_it_costs_in_this_process(
    minilm_pair: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """The two take turns, and the fastest of each counts: other work beside slows either."""
    places = {name: [tmp_path / f"{name}-{turn}" for turn in range(ROUNDS)] for name in ("here", "worker")}
    seconds: dict[str, list[float]] = {name: [] for name in places}
    for turn in range(ROUNDS):
        for name, workers in (("here", 0), ("worker", 1)):
            figures = run_probes(minilm_pair, shared_data, places[name][turn], workers, TIMED)
            seconds[name].append(figures["seconds_of_probes"])
    overhead = min(seconds["worker"]) / min(seconds["here"]) - 1

    save_result("worker_overhead", {"rows": ROWS, "probes": TIMED, "seconds": seconds, "overhead": overhead})

    require_same_values([*places["here"], *places["worker"]])
    assert overhead <= OVERHEAD
