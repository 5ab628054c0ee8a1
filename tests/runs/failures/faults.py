"""Runs that are killed, lose power or fill the disk end as runs that were left alone; see test_faults.py."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_disk import small_disk

from robustness import RunSettings, api
from robustness.errors import RobustnessError, RunError
from robustness.progress import Progress
from robustness.reports.tables.columns import Table
from robustness.runs.storage import sink

VOLATILE = ["seconds"]
KILLS_SEED = 20


@pytest.fixture(autouse=True)
def many_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every outcome is a transaction of its own, so that there is more to interrupt."""
    monkeypatch.setattr(sink, "FLUSH_SECONDS", 0.0)


def start(tiny: Any, out: Path, on_progress: Any = None, **options: Any) -> Any:
    options = {"attacks": ["deepwordbug", "random-chars"], "limit": 8} | options
    settings = RunSettings(data=tiny.data, testsets=[str(tiny.testset)], **options)
    return api.run("smoke", tiny.pairs, out, settings, on_progress=on_progress)


def fork(action: Callable[[], object], errors: Path) -> int:
    """Runs `action` in a process of its own; its exit code is 2 and `errors` its message where it is refused."""
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        action()
        code = 0
    except RobustnessError as error:
        errors.write_text(str(error))
        code = 2
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(scope="module")
def whole(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that was left alone."""
    return start(tiny, tmp_path_factory.mktemp("whole") / "run")


def assert_same_tables(report: Any, whole: Any) -> None:
    assert report.missing == report.n_errored == 0
    for table in Table:
        ours, theirs = (each.tables[table].drop(columns=VOLATILE, errors="ignore") for each in (report, whole))
        pd.testing.assert_frame_equal(ours, theirs)  # row for row; scores to 5 digits, which batches move


def kill_again_and_again(tiny: Any, whole: Any, folder: Path, kills: int) -> dict[str, int]:
    """Kills runs at drawn moments until `kills` have been, resuming each; whatever gets finished must be whole.

    Returns how many kills and runs there were, and how many of the runs' rows were lost or doubled.
    """
    rng = np.random.default_rng(KILLS_SEED)
    began = time.monotonic()
    start(tiny, folder / "measured")
    length = time.monotonic() - began
    killed = runs = 0
    expected = sorted(stored(whole.folder))
    counts = {"rows": 0, "lost": 0, "doubled": 0}

    def compare(out: Path) -> None:
        assert_same_tables(start(tiny, out), whole)
        found = Counter(stored(out))
        counts["rows"] += len(expected)
        counts["lost"] += len(set(expected) - set(found))
        counts["doubled"] += sum(found.values()) - len(found)

    while killed < kills:
        out = folder / f"run{runs}"
        pid = fork(lambda out=out: start(tiny, out), folder / "errors")
        time.sleep(rng.uniform(0, length / 2))
        os.kill(pid, signal.SIGKILL)  # a child that has ended waits to be collected: the pid is still its own
        code = wait(pid)
        assert code in (0, -signal.SIGKILL), (folder / "errors").read_text()
        killed += code != 0
        if code == 0:
            compare(out)
            runs += 1
    compare(folder / f"run{runs}")
    return {"kills": killed, "runs": runs + 1} | counts


def test_ten_kills_at_any_moment_lose_and_double_nothing(tiny: Any, whole: Any, tmp_path: Path) -> None:
    kill_again_and_again(tiny, whole, tmp_path, kills=10)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_fifty_kills_at_any_moment_lose_and_double_nothing(tiny: Any, whole: Any, tmp_path: Path) -> None:
    counts = kill_again_and_again(tiny, whole, tmp_path, kills=50)

    assert counts["kills"] == 50 and counts["lost"] == counts["doubled"] == 0
    if "ROBUSTNESS_COUNTS" in os.environ:
        Path(os.environ["ROBUSTNESS_COUNTS"]).write_text(json.dumps(counts))


def kill_after(tiny: Any, out: Path, outcomes: int) -> None:
    """Leaves the folder of a run that was killed once so many outcomes were shown as done."""

    def stop(progress: Progress) -> None:
        if progress.done >= outcomes:
            os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(lambda: start(tiny, out, on_progress=stop), out.parent / "errors")) == -signal.SIGKILL


def stored(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "run.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT checkpoint, attack, example_id, status FROM outcomes").fetchall()


def test_what_was_shown_as_done_is_on_disk_when_the_process_is_killed(tiny: Any, tmp_path: Path) -> None:
    kill_after(tiny, tmp_path / "run", 20)

    assert len(stored(tmp_path / "run")) >= 20


def test_a_power_failure_at_any_byte_of_the_log_loses_the_last_rows_alone(
    tiny: Any, whole: Any, tmp_path: Path
) -> None:
    kill_after(tiny, tmp_path / "run", 30)
    log = (tmp_path / "run" / "run.sqlite-wal").read_bytes()
    rng = np.random.default_rng(0)
    counts = []

    for number, length in enumerate(sorted(rng.integers(0, len(log), 20))):
        cut = tmp_path / f"cut{number}"
        shutil.copytree(tmp_path / "run", cut)
        (cut / "run.sqlite-shm").unlink()  # memory shared by processes, which are gone
        (cut / "run.sqlite-wal").write_bytes(log[:length])
        if number in (7, 14):
            assert_same_tables(start(tiny, cut), whole)
        elif length > 40_000:  # the tables themselves are made by the first commits
            counts.append(len(stored(cut)))

    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_a_run_killed_before_its_record_is_written_can_be_started_again(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").write_text('{"pid": 1, "host": "gone", "since": "then"}')
    (tmp_path / "run" / "run.json.part").write_text('{"suite": "smo')

    assert start(tiny, tmp_path / "run", limit=2, attacks=["identity"]).missing == 0


def test_a_second_process_is_refused_with_the_first_ones_pid(tiny: Any, tmp_path: Path) -> None:
    def look(progress: Progress) -> None:
        if progress.done == 5:
            code = wait(fork(lambda: start(tiny, tmp_path / "run"), tmp_path / "errors"))
            assert code == 2

    start(tiny, tmp_path / "run", on_progress=look)

    message = (tmp_path / "errors").read_text()
    assert f"process {os.getpid()} on {os.uname().nodename}, since " in message and "is running here" in message


def test_a_file_size_limit_is_a_clear_error_and_the_run_goes_on_without_it(
    tiny: Any, whole: Any, tmp_path: Path
) -> None:
    def run_limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))
        start(tiny, tmp_path / "run")

    code = wait(fork(run_limited, tmp_path / "errors"))

    assert code == 2
    assert "outcomes stored before are intact" in (tmp_path / "errors").read_text()
    assert 0 < len(stored(tmp_path / "run")) < len(stored(whole.folder))
    assert_same_tables(start(tiny, tmp_path / "run"), whole)


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_once_there_is_space(
    tiny: Any, whole: Any, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 300) as disk:
        ballast = disk.place / "ballast"
        ballast.write_bytes(bytes(180_000))

        with pytest.raises(RunError, match="the disk is full: .*make space, and the same command resumes"):
            start(tiny, disk.place / "run")
        ballast.unlink()
        rows = len(stored(disk.place / "run"))
        disk.resize(10_000)

        assert 0 < rows < len(stored(whole.folder))
        assert_same_tables(start(tiny, disk.place / "run"), whole)
