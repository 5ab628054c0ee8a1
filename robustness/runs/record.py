"""run.json: what a run was made with, and whether its folder may be continued."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from robustness.definitions.model import Definition
from robustness.engine.goal import GoalKind
from robustness.errors import RunError
from robustness.runs.store import FILE_NAME as STORE_FILE

FILE_NAME = "run.json"
RECORDED_PACKAGES = ("peft-robustness", "torch", "transformers", "peft", "numpy", "pandas")


class PairRecord(Definition):
    """One pair as tables name it."""

    name: str
    task: str
    base: str
    full: str
    peft: str
    seed: int | None


class CheckpointRecord(Definition):
    """One checkpoint and what the gate measured."""

    name: str
    adaptation: str
    task: str
    base: str
    train_seed: int | None
    weights_digest: str
    clean_accuracy: float
    majority_share: float
    n_clean: int
    merge_difference: float | None


class TestsetRecord(Definition):
    """One test set as it was loaded."""

    __test__ = False  # the name is the field's word, not a pytest class

    name: str
    task: str
    kind: str
    provenance: str
    n: int
    n_used: int
    """After the limit."""
    digest: str
    scores_f1: bool
    answers: bool = False
    """Whether its rows are questions, scored by exact match and F1."""
    n_attacks: int | None = None
    """Attacks that run on it; None: all of the run."""


class AttackRecord(Definition):
    """One attack with the digest that seeds it."""

    name: str
    family: str
    digest: str
    goal: str = GoalKind.CHANGE_PREDICTION
    mirrors: str | None = None
    """The attack that this baseline mirrors."""


class ProbeRecord(Definition):
    """One probe with the digest that seeds it."""

    name: str
    digest: str
    space: str


class StatisticsRecord(Definition):
    """How the arms were compared, chosen when the tables are written."""

    margin: float = 0.02
    """The largest difference that does not matter, a fraction."""
    alpha: float = 0.05
    correction: Literal["holm", "benjamini-hochberg"] = "holm"
    mcnemar: Literal["exact", "mid-p"] = "exact"
    families: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The comparisons whose p-values were adjusted together, by family."""


class RunRecord(Definition):
    """The whole of run.json."""

    suite: str
    seed: int
    limit: int | None
    device: str
    dtype: str
    fingerprint: dict[str, str]
    """By topic; all must be the same for a run to be continued."""
    pairs: tuple[PairRecord, ...]
    checkpoints: tuple[CheckpointRecord, ...]
    testsets: tuple[TestsetRecord, ...]
    attacks: tuple[AttackRecord, ...]
    probes: tuple[ProbeRecord, ...] = ()
    warnings: tuple[str, ...]
    started: str
    machine: str
    versions: dict[str, str]
    command: tuple[str, ...] = ()
    """The words that repeat the run, but for `--out`."""
    statistics: StatisticsRecord = StatisticsRecord()

    def find_checkpoint(self, name: str) -> CheckpointRecord:
        """Returns the checkpoint of that name, which the run must have."""
        return next(checkpoint for checkpoint in self.checkpoints if checkpoint.name == name)

    def find_testset(self, name: str) -> TestsetRecord:
        """Returns the test set of that name, which the run must have."""
        return next(testset for testset in self.testsets if testset.name == name)


def refuse_foreign_folder(out: Path) -> None:
    """Raises RunError when `out` is a file, or a folder with content that no run wrote."""
    if not out.exists() or (out / FILE_NAME).is_file():
        return
    if not out.is_dir() or (out / STORE_FILE).exists() or any(out.iterdir()):
        raise RunError(f"{out}: holds something that is not a complete run; give --out a new or empty folder")


def refuse_other_settings(out: Path, fingerprint: dict[str, str]) -> None:
    """Raises RunError, naming what differs, when `out` holds a run with other settings."""
    if not (out / FILE_NAME).is_file():
        return
    stored = read_record(out).fingerprint
    changed = sorted(
        topic for topic in fingerprint.keys() | stored.keys() if fingerprint.get(topic) != stored.get(topic)
    )
    if changed:
        raise RunError(
            f"{out}: holds a run with other settings (different: {', '.join(changed)}); "
            "give --out another folder, or repeat the command that started it"
        )


def write_record(out: Path, record: RunRecord) -> None:
    """Writes run.json in one step."""
    draft = out / f"{FILE_NAME}.part"
    draft.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draft.replace(out / FILE_NAME)


def read_record(out: Path) -> RunRecord:
    """Reads run.json; raises RunError when it is missing or not as a run wrote it."""
    path = out / FILE_NAME
    if not path.is_file():
        raise RunError(f"{out}: no {FILE_NAME}; expected a folder that `robustness run` wrote")
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{path}: not as `robustness run` wrote it: {where}: {first['msg']}") from None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
