from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_study import write_study

from robustness.definitions.studies import find_study
from robustness.reports.report import write_report
from robustness.studies.conduct import Conduct, Reporting
from robustness.studies.design import Design, resolve
from robustness.studies.run import StudyResult, run_study


@dataclass(frozen=True, slots=True)
class Desk:
    """A study's file and its folder."""

    file: Path
    out: Path

    def design(self) -> Design:
        return resolve(find_study(str(self.file)), None)

    def run(self, **options: object) -> tuple[StudyResult, list[str]]:
        """Runs the study; returns its result and what was said."""
        said: list[str] = []
        conduct = Conduct(device="cpu", say=said.append, **options)  # type: ignore[arg-type]
        result = run_study(self.design(), self.out, Reporting(write_report, lambda _: ()), conduct)
        return result, said


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A finished study, matched and unmatched; tests that change it take `finished`."""
    folder = tmp_path_factory.mktemp("study")
    desk = Desk(write_study(folder, more='match = "clean"'), folder / "out")
    desk.run()
    return desk


@pytest.fixture
def finished(finished_once: Desk, tmp_path: Path) -> Desk:
    """A copy of the finished study's folder, under the same file."""
    shutil.copytree(finished_once.out, tmp_path / "out")
    shutil.copytree(finished_once.file.parent, tmp_path / "given", ignore=shutil.ignore_patterns("out"))
    return Desk(tmp_path / "given" / "study.toml", tmp_path / "out")
