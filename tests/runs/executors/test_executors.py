"""Runs on workers end as runs in this process; Ray is real, its cluster on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray_nodes import two_nodes

from robustness import Access, RunSettings, api
from robustness.engine.outcome import Status
from robustness.errors import UsageError
from robustness.progress import Progress
from robustness.reports.tables.columns import Table
from robustness.runs import run as run_module
from robustness.sensitivity.measurement import Space
from robustness.workers import dispatch, processes
from robustness.workers.execution import Execution

pytestmark = pytest.mark.timeout(900)
VOLATILE = ["seconds"]
ATTACKS = ["deepwordbug", "fgsm", "random-chars"]
PROBES = ["margin", "jacobian-norm"]
DIES = """
import os
import signal
from pathlib import Path

from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space
from robustness.sensitivity.probe import Reading


class Dies:
    space = Space.INPUT

    def measure(self, subject):
        parameters = sum(each.numel() for each in subject.any_victim.model.parameters())
        if not Path({mark!r}).exists():
            Path({mark!r}).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield Reading(Measurement(Quantity("dies", "1"), float(parameters), Kind.EXACT))
"""
"""A probe that kills its process in the middle, once."""
POISON = """
import os

from robustness import Access


class Poison:
    access = Access.SCORES

    def search(self, example, rng):
        if example.id.endswith("5"):
            os._exit(9)
        scores = yield [example.replace_word(0, "dull")]
        return example
"""


def start(tiny: Any, out: Path, **options: Any) -> Any:
    options = {"attacks": ATTACKS, "limit": 8, "data": tiny.data, "testsets": [str(tiny.testset)]} | options
    options = {"probes": PROBES} | options
    names = {field.name for field in fields(Execution)} & options.keys()
    execution = Execution(**{name: options.pop(name) for name in names})
    on_progress = options.pop("on_progress", None)
    return api.run("smoke", tiny.pairs, out, RunSettings(**options), execution=execution, on_progress=on_progress)


@pytest.fixture(scope="module")
def whole(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run in this process."""
    return start(tiny, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a probe that kills its process, unless the file `mark` is beside it."""
    folder = tmp_path_factory.mktemp("deadly")
    (folder / "dies.py").write_text(DIES.format(mark=str(folder / "mark")))
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SHARD", 3)
    monkeypatch.setattr("robustness.runs.executors.shards.SMALLEST", 1)


def assert_same_tables(report: Any, whole: Any) -> None:
    assert report.missing == report.n_errored == 0
    assert report.missing_measurements == report.n_errored_measurements == 0
    for table in Table:
        ours, theirs = (each.tables[table].drop(columns=VOLATILE, errors="ignore") for each in (report, whole))
        pd.testing.assert_frame_equal(ours, theirs)  # row for row; scores to 5 digits, which batches move


def assert_poisoned_alone(report: Any) -> None:
    """Only the examples that kill their worker are errored; the attack beside it is whole."""
    rows = report.tables[Table.EXAMPLES]
    errored = rows[rows["status"] == Status.ERRORED]
    killing = rows[(rows["attack"] == "poison.py:Poison") & rows["example_id"].str.endswith("5")]
    assert len(killing) and set(errored["example_id"]) == set(killing["example_id"])
    assert set(errored["attack"]) == {"poison.py:Poison"}
    assert errored["error"].str.contains("workers died on it").all()
    assert report.missing == 0


class InterruptionError(Exception):
    pass


def interrupt_at(outcomes: int) -> Any:
    def stop(progress: Progress) -> None:
        if progress.done >= outcomes:
            raise InterruptionError

    return stop


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_processes_that_die_in_a_cell_and_in_a_probe_give_the_tables_of_this_process_row_for_row(
    tiny: Any,
    deadly: Path,
    small_shards: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    probes = [*PROBES, f"{deadly / 'dies.py'}:Dies"]
    (deadly / "mark").touch()
    whole = start(tiny, tmp_path / "whole", probes=probes)
    (deadly / "mark").unlink()
    crews: list[processes.Processes] = []

    def start_crew(*given: Any) -> processes.Processes:
        crews.append(processes.Processes(*given))
        return crews[-1]

    monkeypatch.setattr("robustness.workers.pool.Processes", start_crew)
    killed: list[int] = []
    told: list[Progress] = []

    def kill_one(progress: Progress) -> None:
        told.append(progress)
        if progress.done >= 20 and not killed:
            killed.append(next(iter(crews[0]._processes.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    report = start(tiny, tmp_path / "run", probes=probes, workers=workers, on_progress=kill_one)

    assert_same_tables(report, whole)
    assert killed and (deadly / "mark").exists() and crews[0]._hired >= workers + 2
    assert not crews[0]._processes
    assert told[-1].done == told[-1].total


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


def test_an_interrupted_run_on_two_ray_nodes_goes_on_though_one_dies_and_ends_as_one_in_this_process(
    tiny: Any, whole: Any, cluster: Any, small_shards: None, tmp_path: Path
) -> None:
    ray_options = {"executor": "ray", "ray_address": cluster.address}
    with pytest.raises(InterruptionError):
        start(tiny, tmp_path / "run", **ray_options, on_progress=interrupt_at(25))
    assert api.report(tmp_path / "run").missing > 0
    node = max(cluster.worker_nodes, key=lambda each: each.unique_id)
    killed = []

    def kill_node_in_the_probes(progress: Progress) -> None:
        if "jacobian-norm" in progress.message and not killed:
            killed.append(node)
            cluster.remove_node(node, allow_graceful=False)

    report = start(tiny, tmp_path / "run", **ray_options, workers=2, on_progress=kill_node_in_the_probes)

    assert killed
    assert_same_tables(report, whole)


@pytest.mark.soak  # six workers, one after another; test_dispatch.py has the same with a made-up pool of workers
def test_an_example_that_kills_its_ray_worker_is_errored_and_the_run_goes_on(
    tiny: Any, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "ATTEMPTS", 2)
    (tmp_path / "poison.py").write_text(POISON)
    attacks = [f"{tmp_path / 'poison.py'}:Poison", "random-chars"]

    report = start(tiny, tmp_path / "run", attacks=attacks, limit=8, executor="ray", ray_address=cluster.address)

    assert_poisoned_alone(report)


class Unsendable:
    """Holds what no other process can be given."""

    access = Access.SCORES

    def __init__(self) -> None:
        self.lock = socket.socket()

    def search(self, example: Any, rng: Any) -> Any:
        yield [example]
        return example


class UnsendableProbe:
    """Holds what no other process can be given."""

    space = Space.INPUT

    def __init__(self) -> None:
        self.lock = socket.socket()

    def measure(self, subject: Any) -> Any:
        return []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "slurm"}, "--executor slurm: expected local or ray"),
        ({"workers": 0}, "--workers 0: expected at least 1"),
        ({"ray_address": "auto"}, "--ray-address auto: needs --executor ray"),
        ({"executor": "ray", "ray_address": "nowhere"}, "expected HOST:PORT"),
        ({"executor": "ray", "ray_address": "ray://127.0.0.1:1"}, "expected HOST:PORT"),
        ({"executor": "ray", "ray_address": "127.0.0.1:1"}, "nothing answers there .*ray start --head"),
        ({"executor": "ray", "cache": "scores"}, "--cache scores: .* machines cannot share"),
        ({"workers": 1, "attacks": [Unsendable]}, "attack Unsendable: .* name it as file.py:Name"),
        ({"workers": 1, "probes": [UnsendableProbe]}, "probe UnsendableProbe: .* name it as file.py:Name"),
    ],
)
def test_workers_that_cannot_be_had_are_refused_before_anything_is_written(
    tiny: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    if options.get("executor") == "ray":
        pytest.importorskip("ray", reason="the extra `ray` is not installed")

    with pytest.raises(UsageError, match=message):
        start(tiny, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_gone_is_not_waited_for(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")

    with pytest.raises(UsageError, match="--ray-address 127.0.0.1:1: nothing answers there"):
        start(tiny, tmp_path / "run", executor="ray", ray_address="auto")


def test_without_ray_the_message_says_how_to_install_it(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"pip install 'peft-robustness\[ray\]'"):
        start(tiny, tmp_path / "run", executor="ray")
