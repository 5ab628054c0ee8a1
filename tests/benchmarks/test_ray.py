"""What Ray on two local nodes costs over two processes of this machine, and whether they find the same.

Both runs have two workers of one thread each. Processor seconds are those of all processes, Ray's own included; wall
seconds say more, but only where nothing else runs beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustness.runs.storage.store import read_outcomes

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
ROWS = int(os.environ.get("ROBUSTNESS_BENCH_ROWS", "260"))
"""Of SST-2, for two checkpoints and two attacks: five minutes on two workers."""
OVERHEAD = 0.10

SCRIPT = """
import json, sys, threading, time
import psutil
import torch
torch.set_num_threads(1)

spent, names = {}, {}

def look():
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            key, times = (process.pid, process.create_time()), process.cpu_times()
            spent[key] = times.user + times.system
            names[key] = "driver" if process is me else "workers" if "_Actor" in process.name() else process.name()
        except psutil.NoSuchProcess:
            pass

def watch():
    while True:
        look()
        time.sleep(0.5)

from robustness import api
kind, pairs, data, out, rows = sys.argv[1:]
options = {}
if kind == "processes":
    options = {"workers": 2}
if kind == "ray":
    from ray.cluster_utils import Cluster
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    options = {"executor": "ray", "ray_address": cluster.address, "workers": 2}
look()
before = dict(spent)
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
api.run("smoke", pairs, out, data=data, testsets=["sst2"], attacks=["deepwordbug", "pwws"], limit=int(rows),
        device="cpu", **options)
wall = time.perf_counter() - started
look()
parts = {}
for key, seconds in spent.items():
    parts[names[key]] = parts.get(names[key], 0) + seconds - before.get(key, 0)
print(json.dumps({"wall_seconds": wall, "processor_seconds": sum(parts.values()), "by_process": parts}))
"""


def differing(one: Path, other: Path) -> int:
    """Rows whose text or status differ."""
    key = ["checkpoint", "testset", "attack", "example_id"]
    a, b = (
        read_outcomes(folder).set_index(key).sort_index().fillna({"adversarial_text": ""}) for folder in (one, other)
    )
    assert a.index.equals(b.index)
    return int(((a["status"] != b["status"]) | (a["adversarial_text"] != b["adversarial_text"])).sum())


def test_ray_on_two_nodes_costs_less_than_a_tenth_more(
    minilm_pair: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    figures: dict[str, Any] = {"rows": ROWS}
    for kind in ("ray", "processes"):
        words = [kind, str(minilm_pair), str(shared_data), str(tmp_path / kind), str(ROWS)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        figures[kind] = json.loads(done.stdout.splitlines()[-1])
        print(kind, figures[kind], flush=True)
    figures["rows_compared"] = len(read_outcomes(tmp_path / "ray"))
    figures["rows_that_differ"] = differing(tmp_path / "ray", tmp_path / "processes")
    for clock in ("wall", "processor"):
        ray, processes = (figures[kind][f"{clock}_seconds"] for kind in ("ray", "processes"))
        figures[f"{clock}_overhead"] = round(ray / processes - 1, 4)

    save_result("ray", figures)

    assert figures["rows_that_differ"] <= 0.01 * figures["rows_compared"]  # ties that batches decide
    assert figures["wall_overhead"] < OVERHEAD
