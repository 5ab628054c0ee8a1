"""Trainings on workers, killed ones among them, end as trainings in this process; Ray is real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_nodes import two_nodes

from robustness.definitions.catalog import Entry
from robustness.errors import UsageError
from robustness.training.adaptation import Base
from robustness.training.jobs import TrainingJob, TrainingResult, make_checkpoints
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.training import train
from robustness.workers import processes
from robustness.workers.execution import Execution

pytestmark = pytest.mark.timeout(900)
SETTINGS = TrainingSettings(epochs=20, dev_limit=16, report_limit=8, grid="one")
"""Epochs of one step each, so that there is time to kill."""
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def make(tiny_base: Path, data: Path, testset: str) -> Callable[[Path], list[TrainingJob]]:
    """Makes jobs of two methods and seeds in a folder, and one that its base cannot take."""

    def in_folder(folder: Path) -> list[TrainingJob]:
        base = Base(tiny_base, str(tiny_base))
        return [
            TrainingJob(testset, base, method, seed, folder / f"{method.name}-seed{seed}", SETTINGS, data, limit=16)
            for seed in SEEDS
            for method in (find_method("full"), find_method("lora"), absent())
            if seed == 0 or method.name != "absent"
        ]

    return in_folder


def absent() -> Entry[Any]:
    """LoRA of a layer that no model has."""
    lora = find_method("lora")
    assert lora.definition.adapter is not None
    adapter = lora.definition.adapter.model_copy(update={"target_modules": ("qkv",)})
    return Entry("absent", lora.path, lora.definition.model_copy(update={"adapter": adapter}))


@pytest.fixture(scope="module")
def whole(
    make: Callable[[Path], list[TrainingJob]], tmp_path_factory: pytest.TempPathFactory
) -> list[TrainingResult]:
    """The results in this process."""
    return make_checkpoints(make(tmp_path_factory.mktemp("whole")), device="cpu")


def assert_same(results: list[TrainingResult], whole: list[TrainingResult]) -> None:
    for ours, theirs in zip(results, whole, strict=True):
        assert (ours.reason, ours.selecting_scores) == (theirs.reason, theirs.selecting_scores)
        assert weights(ours.job.folder) == weights(theirs.job.folder)
    assert [result.failed for result in results].count(True) == 1


def weights(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))]


def test_two_processes_one_of_them_killed_make_the_same_checkpoints(
    make: Callable[[Path], list[TrainingJob]],
    whole: list[TrainingResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crews: list[processes.Processes] = []

    def start_crew(*given: Any) -> processes.Processes:
        crews.append(processes.Processes(*given))
        return crews[-1]

    monkeypatch.setattr("robustness.workers.pool.Processes", start_crew)
    lines: list[str] = []

    def kill_one(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:  # it has told this one
            os.kill(crews[0]._processes[1].pid, signal.SIGKILL)
            os.kill(crews[0]._processes[2].pid, signal.SIGKILL)

    results = make_checkpoints(make(tmp_path / "out"), Execution(workers=2), kill_one, device="cpu")

    assert_same(results, whole)
    assert any(line.endswith(" starts again, because its worker was lost") for line in lines)
    assert sum(" epoch 20/20: dev accuracy " in line for line in lines) == 4
    assert all(line.startswith(("full seed ", "lora seed ", "absent-seed0: failed")) for line in lines)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}-seed{seed}" for name in ("full", "lora") for seed in SEEDS
    ]


@pytest.mark.parametrize("workers", ["1", pytest.param(None, marks=pytest.mark.soak)])
def test_the_same_command_goes_on_after_its_process_was_killed(
    tiny_base: Path, data: Path, testset: str, tmp_path: Path, workers: str | None
) -> None:
    settings = replace(SETTINGS, report_limit=None)
    given: dict[str, Any] = {"base": str(tiny_base), "methods": ["full", "lora"], "seeds": [0], "data": data}
    whole = train(testset, **given, limit=16, out=tmp_path / "whole", settings=settings, device="cpu").parent
    command = [sys.executable, "-m", "robustness", "train", testset, "--base", str(tiny_base), "--data", str(data)]
    command += ["--method", "full", "--method", "lora", "--limit", "16", "--epochs", "20", "--grid", "one"]
    command += ["--dev-limit", "16", "--device", "cpu", "--out", "out"]
    command += ["--workers", workers] if workers else []

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as driver:
        assert driver.stderr is not None
        next(line for line in driver.stderr if " epoch 2/20" in line)
        crew = psutil.Process(driver.pid).children()
        driver.kill()
    psutil.wait_procs(crew, timeout=20)
    assert not any(each.is_running() for each in crew) and len(crew) == (workers is not None)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout == f"wrote {Path('out') / 'pairs.toml'}\n"
    for name in ("tiny-full-seed0", "tiny-lora-seed0"):
        assert weights(tmp_path / "out" / name) == weights(whole / name)
    assert not list((tmp_path / "out").glob("*.part"))


@pytest.fixture
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


@pytest.mark.soak  # a cluster of its own, whose workers import for minutes on a busy machine
def test_a_ray_node_that_dies_in_the_middle_changes_no_checkpoint(
    make: Callable[[Path], list[TrainingJob]], whole: list[TrainingResult], tmp_path: Path, cluster: Any
) -> None:
    (node,) = cluster.worker_nodes
    execution = Execution("ray", workers=2, ray_address=cluster.address)
    lines: list[str] = []

    def kill_node(line: str) -> None:
        lines.append(line)
        if len({line.partition(" lr ")[0] for line in lines}) == 2 and cluster.worker_nodes:  # two have begun
            cluster.remove_node(node, allow_graceful=False)

    results = make_checkpoints(make(tmp_path / "out"), execution, kill_node, device="cpu")

    assert_same(results, whole)
    assert not cluster.worker_nodes


def test_workers_that_are_not_there_are_refused_before_any_row_is_read(
    make: Callable[[Path], list[TrainingJob]], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    jobs = [replace(job, data=tmp_path / "absent") for job in make(tmp_path)]

    with pytest.raises(UsageError, match="--ray-address nowhere: expected HOST:PORT"):
        make_checkpoints(jobs, Execution("ray", ray_address="nowhere"), device="cpu")
