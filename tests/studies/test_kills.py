"""Studies whose process or workers are killed end as one that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from small_study import run_apart
from studies.conftest import Desk

from robustness.errors import RunError
from robustness.studies.journal import State
from robustness.workers.dispatch import Dispatcher
from robustness.workers.execution import Execution
from robustness.workers.reports import Lost, Report, Told

KILLS, SEED = 20, 7
pytestmark = pytest.mark.timeout(900)
PRELOADED = [
    "robustness.studies.training",
    "robustness.studies.running",
    "robustness.reports.report",
    "robustness.reports.studies.study",
]


def _start(desk: Desk) -> BaseProcess:
    """Starts a study in a process of its own, forked from one that has the libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=run_apart, args=(desk.file, desk.out))
    process.start()
    return process


def _await_file(desk: Desk, pattern: str, process: BaseProcess) -> None:
    deadline = time.monotonic() + 240
    while not list(desk.out.glob(pattern)) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)


def assert_as_whole(desk: Desk, whole: Desk) -> None:
    """Tables, weights and rows are those of a study that was left alone, and no job was done twice."""
    assert desk.tables() == whole.tables()
    assert desk.counts() == whole.counts()
    assert set(desk.counts()["journal"].values()) == {1}


MOMENTS = (
    "checkpoints/*.part",
    "checkpoints/tiny-lora-r1-seed0",
    "runs/*-best-*/run.sqlite",
    "runs/*-clean-*/run.json",
)


def test_a_study_killed_at_four_moments_ends_in_the_same_tables(finished_once: Desk, fresh: Desk) -> None:
    for moment in MOMENTS:
        process = _start(fresh)
        _await_file(fresh, moment, process)
        process.kill()
        process.join()
    result, _ = fresh.run()

    assert all(ended.state is State.DONE for ended in result.ended.values())
    assert_as_whole(fresh, finished_once)


def run_alone(desk: Desk, seconds: float | None = None) -> int:
    """Runs a study in a process of its own, which is killed after so many seconds; returns its exit code."""
    process = _start(desk)
    process.join(seconds)
    process.kill()  # which an ended process does not hear
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_study_killed_at_twenty_random_moments_ends_in_the_same_tables(small: Path, tmp_path: Path) -> None:
    """One moment in each twentieth of a whole study's time; what the kill leaves is resumed and killed again."""
    began = time.monotonic()
    draw, whole = random.Random(SEED), Desk(small, tmp_path / "whole")
    run_alone(Desk(small, tmp_path / "first"))  # starts the server of processes
    started = time.monotonic()
    run_alone(whole)
    length = time.monotonic() - started
    moments = [(place + draw.random()) * 0.9 * length / KILLS for place in range(KILLS)]
    draw.shuffle(moments)
    reached: Counter[int] = Counter()
    """Kills by the number of jobs that had ended."""

    folders = 0
    while moments:
        desk = Desk(small, tmp_path / f"out{folders}")
        while moments and run_alone(desk, moments[-1]):  # if it ends before, the moment is for the next folder
            moments.pop()
            reached[desk.count_ended()] += 1
        run_alone(desk)
        assert_as_whole(desk, whole)
        folders += 1

    if "ROBUSTNESS_COUNTS" in os.environ:
        figures = {"seconds": time.monotonic() - began, "alone": length, "folders": folders, "kills": reached}
        Path(os.environ["ROBUSTNESS_COUNTS"]).write_text(json.dumps(figures))
    assert sum(reached.values()) == KILLS and len(reached) > 2


def test_a_second_process_on_one_study_is_refused_and_the_first_ends_as_if_alone(
    finished_once: Desk, fresh: Desk
) -> None:
    process = _start(fresh)
    _await_file(fresh, "checkpoints", process)

    with pytest.raises(RunError, match=f"process {process.pid} on .* is running here; one run folder takes one"):
        fresh.run()
    process.join()

    assert process.exitcode == 0
    assert_as_whole(fresh, finished_once)


@dataclass(slots=True)
class Assassin:
    """Kills the worker that tells of a training's first epoch, and the one that tells of a run's first outcomes."""

    killed: list[str] = field(default_factory=list)
    """Keys of the jobs that they were at."""
    lost: list[str] = field(default_factory=list)
    """Keys of the jobs that the dispatcher then had to give to another."""

    def hear(self, dispatcher: Dispatcher, number: int, report: Told) -> None:
        is_training = isinstance(report.message, str)
        if is_training == bool(self.killed) or (is_training and " epoch 1/" not in str(report.message)):
            return
        if len(self.killed) < 2:
            self.killed.append(_current(dispatcher, number))
            os.kill(dispatcher.worker_pool._processes[number].pid, signal.SIGKILL)


def _current(dispatcher: Dispatcher, number: int) -> str:
    queued = dispatcher._members[number].current
    return queued.booking.job.key if queued else ""


@pytest.fixture
def assassin(monkeypatch: pytest.MonkeyPatch) -> Assassin:
    found, take = Assassin(), Dispatcher._take

    def watch(dispatcher: Dispatcher, number: int, report: Report) -> None:
        if isinstance(report, Lost):
            found.lost.append(_current(dispatcher, number))
        take(dispatcher, number, report)
        if isinstance(report, Told):
            found.hear(dispatcher, number, report)

    monkeypatch.setattr(Dispatcher, "_take", watch)
    return found


def test_workers_that_die_in_a_training_and_in_a_run_change_no_table(
    small: Path, tmp_path: Path, assassin: Assassin
) -> None:
    whole, desk = Desk(small, tmp_path / "whole"), Desk(small, tmp_path / "out")
    whole.run()

    result, said = desk.run(execution=Execution(workers=2))

    assert all(ended.state is State.DONE for ended in result.ended.values())
    assert len(assassin.lost) == 2 and assassin.lost == assassin.killed
    assert any("starts again, because its worker was lost" in line for line in said)
    assert_as_whole(desk, whole)
