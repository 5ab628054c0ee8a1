"""A run that is read is not written."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import robustness
from robustness import RunSettings, api
from robustness.errors import RunError, UsageError


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def run(tiny: Any, tmp_path: Path) -> Any:
    return api.run(
        "smoke",
        tiny.pairs,
        tmp_path / "run",
        RunSettings(
            data=tiny.data, testsets=[tiny.testset], attacks=["deepwordbug"], probes=["margin-gradient"], limit=6
        ),
    )


def test_loading_a_run_changes_no_file_and_no_time(run: Any) -> None:
    before = contents(run.folder)

    loaded = robustness.load(run.folder)

    assert contents(run.folder) == before
    assert loaded.record == run.record
    assert loaded.tables.keys() == run.tables.keys()
    for table, frame in run.tables.items():
        pd.testing.assert_frame_equal(loaded.tables[table], frame)


def test_a_run_is_loaded_from_a_folder_that_cannot_be_written(run: Any) -> None:
    for path in [*run.folder.rglob("*"), run.folder]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))

    try:
        assert len(robustness.load(str(run.folder)).tables["examples"]) == len(run.tables["examples"])
    finally:
        run.folder.chmod(0o755)


@pytest.mark.parametrize("given", [5, None])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match=f"load: folder: expected a path; got {given}"):
        robustness.load(given)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run.json; expected a folder that `robustness run` wrote"):
        robustness.load(tmp_path)
