"""Twelve trainings of a study, of one thread each: two workers against one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.watched import run_watched

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROWS = int(os.environ.get("ROBUSTNESS_BENCH_ROWS", "400"))
"""About thirteen seconds a training, beside which the start of a worker is little."""
GAIN = 1.8
TRAININGS = 12
STUDY = """
base = "{base}"
tasks = ["sst2"]
methods = ["full", "lora"]
seeds = [0, 1, 2, 3, 4, 5]
rows = [{rows}]
suites = ["smoke"]
[training]
epochs = 1
grid = "one"
dev_limit = 64
"""
BODY = """
from pathlib import Path
from robustness.definitions.studies import find_study
from robustness.studies.conduct import Conduct
from robustness.studies.design import resolve
from robustness.studies.training import train_checkpoints
from robustness.workers.execution import Execution

workers, file, data, out = sys.argv[1:]
design = resolve(find_study(file), Path(data))
wanted = list(design.checkpoints)
started = time.perf_counter()
for _, ended in train_checkpoints(design, wanted, Path(out), Conduct("cpu", Execution(workers=int(workers)))):
    assert ended.state == "done", ended.reason
"""


def test_two_workers_make_twelve_checkpoints_in_little_more_than_half_the_time(
    minilm: Path, shared_data: Path, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    """By the wall, so on an idle machine; what the driver and its busiest worker had of a processor is kept too."""
    file = tmp_path / "twelve.toml"
    file.write_text(STUDY.format(base=minilm, rows=ROWS), encoding="utf-8")
    one, two = (
        run_watched(BODY, [workers, str(file), str(shared_data), str(tmp_path / workers)], threads=1)
        for workers in ("1", "2")
    )
    gains = {
        "gain_by_wall": one["wall_seconds"] / two["wall_seconds"],
        "gain_by_processor": one["critical_processor_seconds"] / two["critical_processor_seconds"],
    }

    save_result("study-workers", {"rows": ROWS, "trainings": TRAININGS, "one": one, "two": two} | gains)

    assert (len(one["workers"]), len(two["workers"])) == (1, 2)
    made = [sorted(path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*.safetensors")) for n in "12"]
    assert made[0] == made[1] and len(made[0]) == TRAININGS
    for path in made[0]:
        assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), path
    assert gains["gain_by_wall"] >= GAIN
