"""Fifty kills at drawn moments, each resumed: how many rows were lost or doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1300)]
FAULTS = Path(__file__).parents[1] / "runs" / "failures" / "faults.py"


def test_fifty_kills(tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]) -> None:
    counts = tmp_path / "counts.json"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ROBUSTNESS_COUNTS": str(counts)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "soak", str(FAULTS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    figures = json.loads(counts.read_text())
    save_result("kills", figures)

    assert figures["kills"] == 50 and figures["lost"] == figures["doubled"] == 0
