"""Worker processes and the GPUs they are given, with made-up processes; test_executors.py runs real ones."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from made_up_jobs import Count, CountBenchSpec, CountBooking

from robustness.errors import UsageError
from robustness.versions import library_versions
from robustness.workers import pool, processes
from robustness.workers.dispatch import Dispatcher
from robustness.workers.execution import Execution
from robustness.workers.jobs import Job
from robustness.workers.packing import pack
from robustness.workers.pool import check_workers, open_workers
from robustness.workers.processes import Processes
from robustness.workers.reports import Ended, Lost, Report, Started, Told

CUDA = torch.device("cuda")
DRIVER = """
from made_up_jobs import Count, CountBenchSpec
from robustness.workers.packing import pack
from robustness.workers.processes import Processes

crew = Processes(pack(CountBenchSpec(silent=1)), [], threads=1)
worker = crew.start()
crew.wait(60)
crew.hand(worker, Count("silent", 0, 3))
crew.wait(60)
print(crew._processes[worker].pid, flush=True)
crew.wait(600)
"""
"""Waits for a job that tells one number and then nothing."""


class MadeUpProcess:
    """A process as the pool of workers sees it: the test holds the other end of its pipe."""

    def __init__(self, command: list[str], *, pass_fds: Sequence[int], stdin: Any, env: Any, **_: Any) -> None:
        self.pipe = Connection(os.dup(pass_fds[0]))
        self.spec = os.pread(stdin.fileno(), 100_000_000, 0)
        self.device = env.get("CUDA_VISIBLE_DEVICES")
        self.threads = env["OMP_NUM_THREADS"]
        self.was_killed = False
        self.hangs = False

    def wait(self, timeout: float | None = None) -> int:
        if self.hangs and not self.was_killed:
            assert timeout is not None, "this process never ends: the run would wait for ever"
            raise subprocess.TimeoutExpired("python", timeout)
        return 1

    def kill(self) -> None:
        self.was_killed = True


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[MadeUpProcess]:
    """All processes that are started, in their order."""
    found: list[MadeUpProcess] = []

    def start(*arguments: Any, **options: Any) -> MadeUpProcess:
        found.append(MadeUpProcess(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


def report_start(process: MadeUpProcess) -> None:
    process.pipe.send(Started({}, "there"))


def test_each_process_sees_one_gpu_and_a_dead_ones_gpu_is_handed_on(started: list[MadeUpProcess]) -> None:
    worker_pool = Processes(b"spec", ["4", "GPU-6f"], threads=3)
    worker_pool.start(), worker_pool.start()
    assert [each.device for each in started] == ["4", "GPU-6f"]
    assert [each.threads for each in started] == ["3", "3"]
    assert {each.spec for each in started} == {b"spec"}

    started[0].pipe.close()
    ((worker, report),) = worker_pool.wait(1)
    worker_pool.start()

    assert worker == 1 and report == Lost("process ended with exit code 1")
    assert started[0].was_killed and started[2].device == "4"
    worker_pool.dismiss()
    assert all(each.was_killed for each in started)


def test_a_gpu_on_which_a_worker_could_not_start_is_tried_last(started: list[MadeUpProcess]) -> None:
    worker_pool = Processes(b"", ["bad", "good", "unknown"], threads=1)
    worker_pool.start(), worker_pool.start()
    started[0].pipe.close()
    worker_pool.wait(1)
    report_start(started[1])
    worker_pool.wait(1)
    started[1].pipe.close()
    worker_pool.wait(1)

    for _ in range(3):
        worker_pool.start()

    assert [each.device for each in started] == ["bad", "good", "good", "unknown", "bad"]
    worker_pool.dismiss()


def test_on_a_cpu_no_gpu_is_named(started: list[MadeUpProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    worker_pool = Processes(b"", [], threads=1)

    worker_pool.start()

    assert started[0].device == "7"  # as it was
    worker_pool.dismiss()


@pytest.mark.timeout(60)
def test_a_process_that_closes_its_pipe_and_hangs_is_killed(started: list[MadeUpProcess]) -> None:
    worker_pool = Processes(b"", [], threads=1)
    worker_pool.start()
    started[0].hangs = True
    started[0].pipe.close()

    ((_, report),) = worker_pool.wait(1)

    assert report == Lost("process closed its pipe without exiting, and was killed")
    assert started[0].was_killed


@pytest.mark.timeout(60)
def test_a_large_kit_keeps_no_other_process_from_starting(started: list[MadeUpProcess]) -> None:
    spec = bytes(20_000_000)  # far more than a pipe holds
    worker_pool = Processes(spec, [], threads=1)

    worker_pool.start(), worker_pool.start()  # which read nothing before they have started

    assert [each.spec == spec for each in started] == [True, True]
    worker_pool.dismiss()


def test_waiting_ends_when_nobody_reports(started: list[MadeUpProcess]) -> None:
    worker_pool = Processes(b"", [], threads=1)
    worker_pool.start()

    assert worker_pool.wait(0.01) == []
    worker_pool.dismiss()


LIGHT_WORKER = """
import sys, time
from multiprocessing.connection import Connection
from pathlib import Path

folder = Path({folder!r})
with Connection(int(sys.argv[1])) as pipe:
    pipe.send_bytes((folder / "started").read_bytes())
    while True:
        job = pipe.recv_bytes()
        name = "first" if b"first" in job else "second"
        while name == "second" and not (folder / "killed").exists():
            time.sleep(0.01)
        pipe.send_bytes((folder / name).read_bytes())
        pipe.send_bytes((folder / "ended").read_bytes())
"""
"""Speaks as a worker does, without torch: does one job at once, the other not before workers have been killed."""


class KilledTogether:
    """Real processes, of which the idle one and the busy one are killed at the same moment."""

    def __init__(self, folder: Path) -> None:
        self.worker_pool = Processes(b"", [], threads=1)
        self.folder = folder
        self.together: list[tuple[int, Report]] = []
        self._has_ended = False
        self._busy = 0
        self.start, self.dismiss = self.worker_pool.start, self.worker_pool.dismiss

    def hand(self, worker: int, job: Job) -> None:
        self._busy = worker
        self.worker_pool.hand(worker, job)

    def wait(self, seconds: float) -> list[tuple[int, Report]]:
        if not self._has_ended or self.together or len(self.worker_pool._proven) < 2:
            reports = self.worker_pool.wait(seconds)
            self._has_ended |= any(isinstance(report, Ended) for _, report in reports)
            return reports
        for process in self.worker_pool._processes.values():
            os.kill(process.pid, signal.SIGKILL)
        for process in self.worker_pool._processes.values():
            process.wait()
        (self.folder / "killed").touch()
        self.together = sorted(self.worker_pool.wait(seconds), key=lambda report: report[0] != self._busy)
        return self.together


@pytest.mark.timeout(60)
def test_processes_killed_at_the_same_moment_are_replaced_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: dict[str, Report] = {
        "started": Started(library_versions(), "there"),
        "first": Told(7),
        "second": Told(8),
        "ended": Ended(()),
    }
    for name, message in messages.items():
        (tmp_path / name).write_bytes(pickle.dumps(message))
    (tmp_path / "light_worker.py").write_text(LIGHT_WORKER.format(folder=str(tmp_path)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(processes, "__name__", "light_worker")
    worker_pool = KilledTogether(tmp_path)
    bookings = [CountBooking(Count("first", 7, 8)), CountBooking(Count("second", 8, 9))]

    Dispatcher(worker_pool, 2).run(bookings)

    assert dict(worker_pool.together) == dict.fromkeys((1, 2), Lost("process was killed by SIGKILL"))
    assert [booking.told for booking in bookings] == [[7], [8]]
    assert worker_pool.worker_pool._hired == 3


@pytest.mark.parametrize(
    ("variable", "devices"),
    [("3, GPU-5c", ["3", "GPU-5c"]), (None, ["0", "1", "2", "3"])],
)
def test_visible_gpus_are_those_that_the_environment_names_or_else_all(
    variable: str | None, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, variable)

    assert pool._visible_devices() == devices


def see_gpus(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    """Makes torch count four GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    see_gpus(monkeypatch, "3,5")
    check_workers(Execution(workers=2), CUDA)

    with pytest.raises(UsageError, match="--workers 3: each has a GPU of its own, and 2 are visible"):
        check_workers(Execution(workers=3), CUDA)


def test_a_gpu_named_for_all_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="--device cuda:1: every worker has a GPU of its own; give --device cuda"):
        check_workers(Execution(workers=2), torch.device("cuda:1"))


def test_workers_are_spread_over_as_many_gpus_and_others_stand_in_for_broken_ones(
    started: list[MadeUpProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    see_gpus(monkeypatch, "6,7,8")

    with open_workers(CountBenchSpec(), Execution(workers=2), CUDA) as dispatcher:
        worker_pool, workers = dispatcher.worker_pool, dispatcher.workers
        worker_pool.start(), worker_pool.start()

    assert workers == 2 and [each.device for each in started] == ["6", "7"]

    started[0].pipe.close()
    worker_pool.wait(1)
    worker_pool.start()

    assert started[2].device == "8"
    worker_pool.dismiss()


def test_a_process_ends_with_its_driver_in_the_middle_of_a_silent_job(tmp_path: Path) -> None:
    """A killed driver cannot tell its workers to end, and the same command may already train in the same folder."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(processes.__file__).parents[2])])
    with subprocess.Popen(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        worker = int(driver.stdout.readline())

        driver.kill()

    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


def test_modules_of_the_working_directory_do_not_hide_those_of_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tempfile.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    crew = Processes(pack(CountBenchSpec()), [], threads=1)

    try:
        worker = crew.start()
        assert [(number, type(report)) for number, report in crew.wait(60)] == [(worker, Started)]
    finally:
        crew.dismiss()


def test_a_worker_finds_modules_of_the_working_directory_where_its_driver_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["first", "", "last"])
    given: list[str] = []
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *_, env, **__: given.append(env["PYTHONPATH"]))

    Processes(b"", [], threads=1).start()

    assert given == [os.pathsep.join(["first", str(tmp_path), "last"])]
