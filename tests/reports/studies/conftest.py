"""Synthetic studies, each read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.reports.studies.study import StudyReport, build_study

Told = Callable[..., StudyReport]


@pytest.fixture(scope="session")
def rising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA gains 5 points of withstanding per doubling of its rank, from 30; full withstands 60."""
    shape = Shape(
        methods=(FULL, Method("bitfit", 6_000, robust=0.4), *ranks(0.05, robust=0.3)),
        probes=True,
        matchings=("best", "clean"),
        n=150,
        failed=("lora-r4",),
    )
    return write_study(tmp_path_factory.mktemp("rising") / "study", shape)


@pytest.fixture(scope="session")
def rising_report(rising: Path) -> StudyReport:
    return build_study(rising)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Writes a study of a shape and reads it."""

    def tell(shape: Shape, seed: int = 0) -> StudyReport:
        return build_study(write_study(tmp_path / "study", shape, seed=seed))

    return tell
