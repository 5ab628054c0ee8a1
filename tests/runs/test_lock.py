from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from robustness.errors import RunError
from robustness.runs.lock import FILE_NAME, LockHolder, hold_lock


def test_a_held_lock_refuses_others_and_says_whose_it_is(tmp_path: Path) -> None:
    with (
        hold_lock(tmp_path),
        pytest.raises(RunError, match=f"process {os.getpid()} on {socket.gethostname()} is running"),
        hold_lock(tmp_path),
    ):
        pass

    with hold_lock(tmp_path):  # let go of
        pass


def test_a_lock_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    for content in ('{"pid": 999999999, "host": "elsewhere"}', "", '{"pid": 1', "\x00" * 50):
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
    (tmp_path / FILE_NAME).write_text(LockHolder(pid=pid, host=host).model_dump_json())

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
