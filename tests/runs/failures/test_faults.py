"""Runs `faults.py` in a process of its own: it forks, which a process with threads of torch or a browser may not."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def run_alone(marker: str, seconds: int) -> str:
    """The output of pytest on the file; fails with it where a test did, and warns of what was skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", marker]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("faults.py"))],
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines():
        if line.startswith("SKIPPED"):
            warnings.warn(line, stacklevel=1)
    return done.stdout


def test_killed_cut_off_and_out_of_disk_runs_end_as_whole_ones() -> None:
    assert " passed" in run_alone("not soak", seconds=280)


@pytest.mark.soak
@pytest.mark.timeout(1300)
def test_fifty_kills() -> None:
    assert "1 passed" in run_alone("soak", seconds=1200)
