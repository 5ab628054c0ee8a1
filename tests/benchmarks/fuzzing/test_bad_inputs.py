"""How many bad inputs were tried, and how many of them were refused clearly: the fuzzers' and the tests' together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark
TESTS = Path(__file__).parents[2]
REFUSALS = [
    *("commands/test_bad_input.py", "definitions", "victims/files", "victims/test_loading.py"),
    *("victims/test_gate.py", "testsets/test_rows.py", "testsets/test_squad.py", "testsets/test_tables.py"),
    *(
        "testsets/test_loading.py",
        "recipes/assets/test_downloading.py",
        "recipes/test_no_code.py",
        "runs/test_changes.py",
    ),
]
"""Files of tests in which a bad input is a test case."""
WORDS = (
    "refused",
    "error",
    "broken",
    "unknown",
    "missing",
    "named",
    "never",
    "no_code",
    "outside",
    "hostile",
    "unusual",
)
"""Of the names of tests that give a bad input."""


def count_cases() -> dict[str, int]:
    """Test cases whose names speak of bad input, by words; whether each is refused is what `make test` finds out."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *(str(TESTS / name) for name in REFUSALS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS.parent)
    names = [line for line in done.stdout.splitlines() if "::" in line]
    told = [name for name in names if any(word in name.partition("::")[2] for word in WORDS)]
    return {"named_after_bad_input": len(told)}


def test_bad_inputs_are_refused_clearly(save_result: Callable[[str, dict[str, Any]], None]) -> None:
    fuzzed = {
        path.stem.removeprefix("fuzzing_"): json.loads(path.read_text())["figures"]
        for path in sorted((TESTS / "benchmarks" / "results").glob("fuzzing_*.json"))
    }
    totals = {key: sum(each[key] for each in fuzzed.values()) for key in ("tried", "refused_clearly", "read")}
    figures = {
        "damaged_files": totals,  # a fuzzer ends at the first that is neither, and leaves no figures
        "damaged_files_by_reader": {name: each["tried"] for name, each in fuzzed.items()},
        "test_cases": count_cases(),
    }

    save_result("bad_inputs", figures)

    assert figures["damaged_files"]["tried"] > 0
    assert figures["test_cases"]["named_after_bad_input"] > 100
