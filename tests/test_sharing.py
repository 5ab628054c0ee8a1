from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

import pytest

from robustness.sharing import find_drafts, hold, hold_folder, name_draft


def test_no_two_drafts_of_a_path_have_one_name_and_all_of_them_are_found(tmp_path: Path) -> None:
    path = tmp_path / "full-[a]-seed0"
    drafts = {name_draft(path) for _ in range(20)}
    for each in (*drafts, path, name_draft(tmp_path / "full-[a]-seed0.b"), tmp_path / "full-[a]-seed0.mine.part"):
        each.mkdir()

    assert len(drafts) == 20 and {each.parent for each in drafts} == {tmp_path}
    assert set(find_drafts(path)) == drafts
    assert find_drafts(tmp_path / "absent" / "path") == []


@pytest.mark.parametrize("held_by", [lambda folder: hold(folder / "file"), hold_folder], ids=["path", "folder"])
def test_who_holds_a_path_keeps_the_others_waiting(
    tmp_path: Path, held_by: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """A lock is that of an open file, so threads wait for one another as processes do."""
    held, order = Event(), []

    def first() -> None:
        with held_by(tmp_path):
            held.set()
            time.sleep(0.2)
            order.append("first")

    with ThreadPoolExecutor() as pool:
        done = pool.submit(first)
        held.wait(10)
        with held_by(tmp_path):
            order.append("second")
        done.result()

    assert order == ["first", "second"]


@pytest.mark.parametrize(("code", "goes_on"), [(errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_without_locks_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, goes_on: bool
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    went_on = False

    try:
        with hold(tmp_path / "file"):
            went_on = True
    except OSError as error:
        assert error.errno == code

    assert went_on == goes_on
