"""Whatever a file holds, reading it ends in its content or a RobustnessError: few inputs here, many in `bench`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

INPUTS = int(os.environ.get("ROBUSTNESS_FUZZ_INPUTS", "200000"))
HERE = Path(__file__).parent
FILES_A_DRAW = 250
"""Damaged files in one draw of Hypothesis, which takes longer to draw than a file to read."""


def load_fuzzed() -> Any:
    """The readers' module beside this file, which atheris loads too."""
    spec = importlib.util.spec_from_file_location("fuzzed", HERE / "fuzzed.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzzed = load_fuzzed()


def fuzz(name: str, folder: Path, inputs: int) -> dict[str, Any]:
    """Feeds damaged files to a reader; returns how many were tried and how many of them were refused clearly."""
    act, originals = fuzzed.READERS[name]
    folder.mkdir(exist_ok=True)
    counts = {"tried": 0, "refused": 0}
    size = min(FILES_A_DRAW, max(1, inputs // 10))
    draw = st.binary(min_size=size * fuzzed.SCRIPT, max_size=size * fuzzed.SCRIPT)
    started = time.process_time()

    @seed(20)
    @settings(
        max_examples=-(-inputs // size),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(draw)
    def feed(scripts: bytes) -> None:
        pieces = [scripts[i : i + fuzzed.SCRIPT] for i in range(0, len(scripts), fuzzed.SCRIPT)]
        contents = [fuzzed.damage(originals, piece) for piece in pieces]
        counts["refused"] += act(folder, contents)
        counts["tried"] += len(contents)

    feed()
    return described(**counts, seconds=time.process_time() - started)


def fuzz_by_coverage(name: str, folder: Path, inputs: int) -> dict[str, Any]:
    """Lets atheris (libFuzzer) change a file's bytes towards branches that no earlier input took."""
    folder.mkdir()
    started = seconds_of_children()
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz_with_atheris.py"), name, str(folder), str(inputs)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return described(**json.loads((folder / "counts.json").read_text()), seconds=seconds_of_children() - started)


def seconds_of_children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def described(tried: int, refused: int, seconds: float) -> dict[str, Any]:
    return {
        "tried": tried,
        "refused_clearly": refused,
        "read": tried - refused,
        "processor_seconds": round(seconds, 1),
    }


@pytest.mark.parametrize("name", fuzzed.READERS)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    found = fuzz(name, tmp_path, 150)

    assert found["tried"] >= 100
    assert (found["refused_clearly"] > 0) == (name != "csv-writer")  # which takes any text


def test_an_input_on_which_a_reader_crashes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> None:
        if b"9999" in path.read_bytes():
            raise KeyError("broken on purpose")

    monkeypatch.setitem(fuzzed.READERS, "tsv", (fuzzed.one_by_one("dev.tsv", crash), (fuzzed.TSV,)))

    with pytest.raises(KeyError, match="broken on purpose"):
        fuzz("tsv", tmp_path, 2_000)


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", fuzzed.READERS)
@pytest.mark.parametrize("tool", ["hypothesis", "atheris"])
def test_many_damaged_files_are_read_or_refused(
    tool: str, name: str, tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    if tool == "atheris":
        pytest.importorskip("atheris", reason="atheris is not installed: pip install '.[fuzz]'")
    found = (fuzz if tool == "hypothesis" else fuzz_by_coverage)(name, tmp_path / name, INPUTS)

    save_result(f"fuzzing_{tool}_{name}", found)

    assert found["tried"] >= 0.9 * INPUTS
