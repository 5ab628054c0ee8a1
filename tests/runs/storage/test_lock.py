from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from robustness.errors import RunError
from robustness.runs.storage.disk import STORE, explain_failed_writes
from robustness.runs.storage.lock import (
    FILE_NAME,
    LockHolder,
    describe_holder,
    describe_progress,
    find_holder,
    hold_lock,
)
from robustness.runs.storage.measurements import read_measurements
from robustness.runs.storage.store import Store, read_outcomes, read_replays


def test_a_held_lock_refuses_others_and_says_whose_it_is(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path),
        pytest.raises(RunError, match=rf"process {os.getpid()} on .*, since \d{{4}}-.*, is running"),
        hold_lock(tmp_path),
    ):
        pass

    with hold_lock(tmp_path):  # let go of
        pass


def test_a_lock_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    for content in ('{"pid": 999999999, "host": "elsewhere", "since": "then"}', "", '{"pid": 1', "\x00" * 50):
        (tmp_path / FILE_NAME).write_text(content)

        with hold_lock(tmp_path):
            assert LockHolder.model_validate_json((tmp_path / FILE_NAME).read_bytes()).pid == os.getpid()


@pytest.mark.parametrize(
    ("pid", "host", "is_refused"),
    [
        (1, socket.gethostname(), True),  # alive
        (999_999_999, socket.gethostname(), False),
        (999_999_999, "another-host", True),  # which cannot be asked
    ],
)
def test_without_locks_in_the_file_system_the_file_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, host: str, is_refused: bool
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / FILE_NAME).write_text(LockHolder(pid=pid, host=host, since="then").model_dump_json())

    if is_refused:
        with pytest.raises(RunError, match=f"process {pid} on {host}"), hold_lock(tmp_path):
            pass
    else:
        with hold_lock(tmp_path):
            pass


def test_a_run_that_fails_lets_go_of_its_folder_by_name_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold_lock(tmp_path):
        raise KeyboardInterrupt

    assert (tmp_path / FILE_NAME).read_bytes() == b""


def noted(folder: Path, pid: int, host: str = socket.gethostname()) -> LockHolder:
    holder = LockHolder(pid=pid, host=host, since="2026-01-02T03:04:05+00:00")
    (folder / FILE_NAME).write_text(holder.model_dump_json())
    return holder


def test_who_is_running_in_a_folder_is_told_and_the_dead_and_this_process_are_nobody(tmp_path: Path) -> None:
    assert find_holder(tmp_path) is None
    assert find_holder(tmp_path / "gone") is None
    for pid in (999_999_999, os.getpid()):
        noted(tmp_path, pid)
        assert find_holder(tmp_path) is None
    assert find_holder(tmp_path) is None
    living = noted(tmp_path, 1)
    assert find_holder(tmp_path) == living
    assert str(living) == f"process 1 on {socket.gethostname()}, since 2026-01-02T03:04:05+00:00,"
    elsewhere = noted(tmp_path, 999_999_999, "another-host")
    assert find_holder(tmp_path) == elsewhere


def test_of_a_process_on_another_host_nothing_is_claimed_that_is_not_known(tmp_path: Path) -> None:
    assert describe_progress(tmp_path) == "the run was interrupted; the same command resumes"
    noted(tmp_path, 1)
    assert describe_progress(tmp_path).endswith("since 2026-01-02T03:04:05+00:00, is still at it")
    noted(tmp_path, 999_999_999, "another-host")
    assert describe_progress(tmp_path) == (
        "process 999999999 on another-host, since 2026-01-02T03:04:05+00:00, was at it; whether it still is cannot "
        "be told from this host: look there; if it has ended, the same command resumes"
    )
    assert describe_holder(tmp_path / STORE).endswith("since 2026-01-02T03:04:05+00:00, may be running there")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of an empty store."""
    Store(tmp_path).close()
    return tmp_path


@pytest.fixture
def locked(store: Path) -> Iterator[Path]:
    """A store that a connection of another program keeps to itself, for longer than anybody waits."""
    with closing(sqlite3.connect(store / STORE, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield store


@pytest.mark.parametrize("read", [read_outcomes, read_replays, read_measurements])
def test_a_locked_store_is_refused_with_the_run_that_holds_it(
    locked: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    monkeypatch.setattr("robustness.runs.storage.store.READ_SECONDS", 0.05)
    noted(locked, 1)

    with pytest.raises(RunError) as caught:
        read(locked)

    assert str(caught.value) == (
        f"{locked / STORE}: is locked: process 1 on {socket.gethostname()}, since 2026-01-02T03:04:05+00:00, is "
        "running there; wait for it or end it, then repeat the command: stored outcomes are intact"
    )


def test_a_store_that_another_program_has_open_is_refused_with_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that was killed there is not blamed."""
    monkeypatch.setattr("robustness.runs.storage.store.READ_SECONDS", 0.05)
    noted(store, 999_999_999)
    code = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA locking_mode=EXCLUSIVE')\nc.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\ninput()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(store / STORE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"

        with pytest.raises(RunError, match=rf"is locked: process {other.pid} \(python.*\) has it open; wait for it"):
            read_outcomes(store)
        other.communicate(b"\n")


def test_a_store_that_cannot_be_written_for_a_lock_is_refused_alike(
    locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.runs.storage.store.LOCK_SECONDS", 0.05)
    noted(locked, 1)

    with pytest.raises(RunError, match=r"is locked: process 1 on .* is running there"), explain_failed_writes(locked):
        Store(locked)


def test_another_errors_of_the_store_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / STORE).write_bytes(b"SQLite format 3\x00" + b"\xff" * 500)

    with pytest.raises(RunError, match="not a readable store"):
        read_outcomes(tmp_path)
