from __future__ import annotations

import re
from pathlib import Path

import pytest

import robustness

ROOMS = Path(robustness.__file__).parent / "recipes"
FILES = [*sorted((ROOMS / "text").glob("*.py")), ROOMS / "cascade.py", ROOMS / "limits.py"]
LABEL = re.compile(r"\.label\b|\b(rows|scores|logits)\b[\w\[\]]*\.argmax")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_searches_know_losses_and_their_objective_alone(file: Path) -> None:
    assert LABEL.findall(file.read_text(encoding="utf-8")) == []


def test_what_reads_a_label_would_be_found() -> None:
    assert LABEL.search("if rows[0].argmax() != gold:") and LABEL.search("example.label")
