from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_study import write_study

from robustness.definitions.studies import find_study
from robustness.options import StudySettings
from robustness.studies.design import Design, resolve
from robustness.studies.run import StudyResult
from robustness.study_call import study
from robustness.workers.execution import Execution


@dataclass(frozen=True, slots=True)
class Desk:
    """A study's file and its folder."""

    file: Path
    out: Path

    def design(self) -> Design:
        return resolve(find_study(str(self.file)), None)

    def run(self, execution: Execution | None = None) -> tuple[StudyResult, list[str]]:
        """Runs the study; returns its result and what was said."""
        said: list[str] = []
        done = study(self.file, self.out, StudySettings(device="cpu"), on_message=said.append, execution=execution)
        return done, said

    def tables(self) -> dict[str, str]:
        """The content of every table and the digest of all weights, by path; tables without what is a time."""
        found = {path: "\n".join(_without_times(path)) for path in self.out.rglob("*.csv")}
        found |= {
            path: path.read_text() for ending in ("md", "tex") for path in self.out.glob(f"study_table.{ending}")
        }
        found |= {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.out.rglob("*.safetensors")}
        return {path.relative_to(self.out).as_posix(): content for path, content in sorted(found.items())}

    def count_ended(self) -> int:
        """The number of jobs that have ended."""
        journal = self.out / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.is_file() else 0

    def counts(self) -> dict[str, Counter[tuple[object, ...]]]:
        """How often each job has ended, and each outcome is stored, by run folder."""
        lines = (self.out / "journal.jsonl").read_text().splitlines()
        found = {"journal": Counter((json.loads(line)["id"],) for line in lines)}
        for store in self.out.glob("runs/*/run.sqlite"):
            with closing(sqlite3.connect(store)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                rows = connection.execute("SELECT checkpoint, testset, attack, example_id FROM outcomes")
                found[store.parent.name] = Counter(rows)
        return found


def _without_times(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield json.dumps({name: cell for name, cell in row.items() if "seconds" not in name})


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


@pytest.fixture
def fresh(finished_once: Desk, tmp_path: Path) -> Desk:
    """The finished study's file with a folder that is not there yet."""
    return Desk(finished_once.file, tmp_path / "out")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The file of a study of one pair."""
    return write_study(tmp_path, methods='["full", "lora"]', seeds="[0]")
