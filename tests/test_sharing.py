from __future__ import annotations

import errno
import fcntl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from robustness.sharing import find_drafts, hold, join, name_draft


def test_no_two_drafts_of_a_path_have_one_name_and_all_of_them_are_found(tmp_path: Path) -> None:
    path = tmp_path / "full-[a]-seed0"
    drafts = {name_draft(path) for _ in range(20)}
    for each in (*drafts, path, name_draft(tmp_path / "full-[a]-seed0.b"), tmp_path / "full-[a]-seed0.mine.part"):
        each.mkdir()

    assert len(drafts) == 20 and {each.parent for each in drafts} == {tmp_path}
    assert set(find_drafts(path)) == drafts
    assert find_drafts(tmp_path / "absent" / "path") == []


@pytest.mark.parametrize("patience", [None, 60.0])
def test_who_holds_a_path_keeps_the_others_waiting(tmp_path: Path, patience: float | None) -> None:
    """A lock is that of an open file, so threads wait for one another as processes do."""
    path, held, order = tmp_path / "file", Event(), []

    def first() -> None:
        with hold(path, patience):
            held.set()
            time.sleep(0.2)
            order.append("first")

    with ThreadPoolExecutor() as pool:
        done = pool.submit(first)
        held.wait(10)
        with hold(path, patience):
            order.append("second")
        done.result()

    assert order == ["first", "second"]


def test_a_holder_that_has_stopped_does_not_keep_the_patient_waiting_for_ever(tmp_path: Path) -> None:
    with hold(tmp_path / "file"):
        started = time.monotonic()
        with hold(tmp_path / "file", patience=0.1):
            assert 0.1 <= time.monotonic() - started < 30


def test_who_asks_whether_others_use_a_folder_still_uses_it(tmp_path: Path) -> None:
    with join(tmp_path / "given") as is_first_alone:
        with join(tmp_path / "given") as is_second_alone:
            assert not is_first_alone()
            assert not is_second_alone()
        assert is_first_alone()


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
