"""The Python of README, docs and notebooks passes mypy --strict, as a user's own code would.

mypy is of the extra `lint`: these tests run where `make lint` does, and are skipped elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed: it is of the extra `lint`")


def read_python(page: Path) -> str:
    """The Python of a page as one module: later blocks use names of earlier ones."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M))


def check(files: list[Path]) -> str:
    """What mypy says, with what the project's own settings say about untyped libraries."""
    options = ["--strict", "--no-error-summary", "--config-file", ROOT / "pyproject.toml"]
    done = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


@needs_mypy
@pytest.mark.timeout(900)
def test_every_example_passes_mypy_strict(tmp_path: Path) -> None:
    files = []
    for page in PAGES:
        if code := read_python(page):
            name = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))
            files.append(tmp_path / f"page_{name}.py")
            files[-1].write_text(code, encoding="utf-8")
    notebooks = sorted((ROOT / "docs" / "notebooks").glob("*.py"))

    said = check([*files, *notebooks])

    assert len(files) >= 3 and notebooks
    assert said == ""


@needs_mypy
def test_a_wrong_call_does_not_pass(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import robustness\n"
        'robustness.run("attacks-quick", "pairs.toml", "out", limit=3)\n'
        'robustness.RunSettings(limit="three")\n'
        "robustness.RunSettings(limits=3)\n"
        'robustness.CheckpointPair(reference=5, candidate="b", task="sst2")\n'
        'robustness.TrainSettings(grid="huge")\n'
        'robustness.load("out").verdicts\n',
        encoding="utf-8",
    )

    said = check([wrong])

    assert [int(line) for line in re.findall(r"wrong\.py:(\d+): error", said)] == [2, 3, 4, 5, 6, 7]
