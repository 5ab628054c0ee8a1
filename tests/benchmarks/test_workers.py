"""What a second worker gains on the probes of two pairs, and what a probe on a worker costs beyond one in the driver.

All processes have one thread. Wall seconds say something only where nothing else runs beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustness.definitions.pairs import read_pairs
from robustness.runs.storage.measurements import read_measurements

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
ROWS = int(os.environ.get("ROBUSTNESS_BENCH_PROBE_ROWS", "64"))
"""Of SST-2, the limit of `probes-quick`: some ten minutes of one core for two pairs."""
PROBES = tuple(filter(None, os.environ.get("ROBUSTNESS_BENCH_PROBES", "").split(",")))
"""Names of probes, separated by commas; all of the suite if there are none."""
GAIN = 1.7
OVERHEAD = 0.02

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


def test_two_workers_halve_the_time_of_the_probes_and_one_costs_no_more_than_this_process(
    minilm_pair: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    pairs = twice(minilm_pair, tmp_path)
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    figures: dict[str, Any] = {"rows": ROWS, "probes": PROBES or "all of probes-quick"}
    for kind, workers in (("in_process", 0), ("one_worker", 1), ("two_workers", 2)):
        words = [str(workers), str(pairs), str(shared_data), str(tmp_path / kind), str(ROWS), json.dumps(PROBES)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        figures[kind] = json.loads(done.stdout.splitlines()[-1])
        figures[kind]["seconds_of_probes"] = seconds_of_probes(tmp_path / kind)
        print(kind, figures[kind], flush=True)
    here, one, two = (figures[kind] for kind in ("in_process", "one_worker", "two_workers"))
    figures["gain_of_a_second_worker"] = one["wall_seconds"] / two["wall_seconds"]
    figures["gain_after_the_gate"] = one["seconds_after_the_gate"] / two["seconds_after_the_gate"]
    figures["overhead_of_a_worker"] = one["seconds_of_probes"] / here["seconds_of_probes"] - 1

    save_result("workers_probes", figures)

    values = [read_measurements(tmp_path / kind).drop(columns="seconds") for kind in ("in_process", "two_workers")]
    pd.testing.assert_frame_equal(*values)
    assert figures["gain_after_the_gate"] >= GAIN
    assert figures["overhead_of_a_worker"] <= OVERHEAD
