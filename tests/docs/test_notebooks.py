"""Every notebook of docs/notebooks runs from its first cell to its last, offline."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import robustness

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_at_most_ten_cells_of_code(notebook: Path) -> None:
    assert 0 < len(re.findall(r"^# %%$", notebook.read_text(encoding="utf-8"), flags=re.MULTILINE)) <= 10


@pytest.mark.timeout(900)
def test_a_pair_in_memory_is_attacked_by_an_attack_of_ones_own_and_drawn(tmp_path: Path) -> None:
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
    environment.pop("ROBUSTNESS_DATA", None)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "docs/notebooks/own_pair.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    report = robustness.load(tmp_path / "own-pair-run")
    examples = report.tables["examples"]
    assert report.n_errored == 0 and report.missing == 0
    assert set(examples["attack"]) == {"none", "DropLetter", "deepwordbug"}
    assert (report.attacks["clean_accuracy"] > 0.9).all()
    assert (report.attacks["robust_accuracy"] < 0.7).all()
