"""run.json: the properties of a run, and whether its folder may be continued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from robustness.definitions.model import Definition
from robustness.engine.named_attack import Effort
from robustness.errors import RunError
from robustness.runs.storage.disk import replace_durably
from robustness.runs.storage.lock import FILE_NAME as LOCK_FILE
from robustness.runs.storage.releases import explain_other_release, find_other_release
from robustness.sharing import hold
from robustness.tasks.objective import ObjectiveKind
from robustness.tasks.task import Task
from robustness.versions import compared_versions, library_versions

FILE_NAME = "run.json"
GIVEN = "given"
"""Folder of models, rows and tasks given as objects."""
PATIENCE = 60.0
"""Seconds to wait for a process that changes run.json or writes tables."""
DRAWN = "drawn at random by the seed, stratified by label, in whole groups"
"""How a limit takes examples from a test set."""


class PairRecord(Definition):
    """One pair with its names in tables."""

    name: str
    task: str
    base: str
    reference: str
    """Name of the reference checkpoint; in the headline contrast the fully fine-tuned one."""
    candidate: str
    seed: int | None
    labels: dict[str, str] = Field(default_factory=dict)
    """Label names in the checkpoints' configs, with the task's."""


class RefusedPair(Definition):
    """A requested pair that was not compared."""

    name: str
    reason: str


class CheckpointRecord(Definition):
    """One checkpoint and the gate's measurements."""

    name: str
    adaptation: str
    """As found in its files."""
    task: str
    base: str
    train_seed: int | None
    weights_digest: str
    clean_accuracy: float
    majority_share: float
    n_clean: int
    merge_difference: float | None
    folder: str = ""
    """Its folder at the time of the run."""
    method_digest: str = ""
    """Digest of the adapter's own configuration with base, task and training rows; a method's seeds share it."""
    settings: dict[str, str] = Field(default_factory=dict)
    """The adapter's own settings in its configuration, which distinguish methods of one name."""
    trainable_parameters: int | None = None
    """For a full checkpoint all parameters, for an adapter those in its file; None: not counted."""
    parameters: int | None = None
    """All of the model's, with head and adapter; None: not counted."""
    changed: str = ""
    """For a full checkpoint: its differences from its base."""
    noise_floor: float | None = None
    """The share of its answers that change at another batch size and order, or with the unmerged adapter: the larger
    of both. None: not measured."""
    n_noise: int = 0
    """Texts asked about again."""
    base_precision: str = ""
    """The base under an adapter: 4bit or full; empty for a full checkpoint."""
    quantised_changed: float | None = None
    """The share of its answers that differ between weights in 4 bit and in full precision.

    The weights are an adapter's base or a full checkpoint's own. None: no arm beside it has a base in 4 bit.
    """
    quantised_probability: float | None = None
    """Between the same two, the largest difference of the probability of a right answer."""
    n_quantised: int = 0
    """Texts asked about in both precisions."""
    recorded_method: str = ""
    """The method's name in its training record, such as lora+freelb; empty without a record."""
    train_seconds: float | None = None
    """Of all learning rates that its training tried; None without a training record."""

    @property
    def method(self) -> str:
        """The method's name in tables: as recorded by its training, else as found."""
        return self.recorded_method or self.adaptation

    @property
    def trainable_share(self) -> float | None:
        """Share of all parameters that were trained; None: not counted.

        A full checkpoint's file may hold parameters that its model does not use: its share is 1.
        """
        if self.trainable_parameters is None or not self.parameters:
            return None
        return min(1.0, self.trainable_parameters / self.parameters)


def describe_left_out(n_selecting: int, n: int) -> str:
    """Describes the unused ones of a test set's n rows, and the reason.

    >>> describe_left_out(436, 872)
    '436 of 872 rows left out: learning rate and epoch of a checkpoint were selected on them'
    """
    return f"{n_selecting} of {n} rows left out: learning rate and epoch of a checkpoint were selected on them"


class TestsetRecord(Definition):
    """One test set as it was loaded."""

    __test__ = False  # the name is the field's word, not a pytest class

    name: str
    task: str
    kind: str
    provenance: str
    n: int
    n_selecting: int = 0
    """Rows left out because they chose a checkpoint's learning rate and epoch."""
    n_used: int
    """After the limit."""
    drawn: str = "all"
    """How the used rows were drawn from the rest."""
    digest: str
    scores_f1: bool
    labels: tuple[str, ...] = ()
    """Labels of its task, in the task's order; responses and gold are among them."""
    answers: bool = False
    """Whether its rows are questions, scored by exact match and F1."""
    n_attacks: int | None = None
    """Attacks that run on it; None: all of the run."""
    n_groups: int = 0
    """Number of sources of the used examples; for questions only of altered forms."""
    n_tests: int = 0
    """Its planned rows in a pair's family of tests, without controls."""


class AttackRecord(Definition):
    """One attack with the digest that seeds it."""

    name: str
    family: str
    digest: str
    goal: str = ObjectiveKind.CHANGE_PREDICTION
    mirrors: str | None = None
    """The attack that this baseline mirrors."""
    effort: Effort = Effort.QUERIES
    """The column of examples.csv that counts what it spends."""


class AttackedRecord(Definition):
    """The attacked rows of a test set on a checkpoint, if both arms' answers choose them."""

    checkpoint: str
    testset: str
    rows: tuple[str, ...]
    """Ids of the examples; a resumed run keeps them."""


class ProbeRecord(Definition):
    """One probe with the digest that seeds it."""

    name: str
    digest: str
    space: str


class StatisticsRecord(Definition):
    """Settings of the comparisons, chosen when the tables are written."""

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
    attacked: int | None = None
    """Maximum of attacked rows of each test set, all right on both arms of a pair; None: all rows."""
    chosen: tuple[AttackedRecord, ...] = ()
    """The chosen rows, once known."""
    device: str
    dtype: str
    fingerprint: dict[str, str]
    """By topic; all must be equal to continue a run."""
    pairs: tuple[PairRecord, ...]
    refused: tuple[RefusedPair, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...]
    testsets: tuple[TestsetRecord, ...]
    attacks: tuple[AttackRecord, ...]
    probes: tuple[ProbeRecord, ...] = ()
    tasks: tuple[Task, ...] = ()
    """Contrasts of its pairs, by pair name."""
    warnings: tuple[str, ...]
    """All reasons to doubt the numbers."""
    suspicions: tuple[str, ...] = ()
    """Warnings that follow from the stored outcomes or from what is missing; found again when the run continues."""
    violations: tuple[str, ...] = ()
    """Lower bounds that exceed an upper bound of the same number, which are faults. Written with the tables."""
    started: str
    machine: str
    versions: dict[str, str]
    command: tuple[str, ...] = ()
    """The command that repeats the run, without `--out`."""
    statistics: StatisticsRecord = StatisticsRecord()

    def find_task(self, name: str) -> Task:
        """Returns the task of that name, which the run must have."""
        return next(task for task in self.tasks if task.name == name)

    def find_checkpoint(self, name: str) -> CheckpointRecord:
        """Returns the checkpoint of that name, which the run must have."""
        return next(checkpoint for checkpoint in self.checkpoints if checkpoint.name == name)

    def count_attacked(self, checkpoint: str, testset: TestsetRecord) -> int:
        """Returns the number of attacked rows of a test set on a checkpoint; the maximum until they are chosen."""
        if self.attacked is None:
            return testset.n_used
        found = (
            len(each.rows) for each in self.chosen if (each.checkpoint, each.testset) == (checkpoint, testset.name)
        )
        return next(found, min(self.attacked, testset.n_used))

    def find_testset(self, name: str) -> TestsetRecord:
        """Returns the test set of that name, which the run must have."""
        return next(testset for testset in self.testsets if testset.name == name)


def refuse_foreign_folder(out: Path) -> None:
    """Raises RunError if `out` is a file, or a folder with content that no run wrote."""
    if not out.exists() or (out / FILE_NAME).is_file():
        return
    left_behind = {LOCK_FILE, f"{FILE_NAME}.part", GIVEN}  # by a run killed before it wrote its record
    if not out.is_dir() or any(path.name not in left_behind for path in out.iterdir()):
        raise RunError(f"{out}: holds something that is not a complete run; give --out a new or empty folder")


def refuse_other_settings(out: Path, fingerprint: dict[str, str]) -> None:
    """Raises RunError with the differences if `out` holds a run with other settings or libraries."""
    if not (out / FILE_NAME).is_file():
        return
    record = read_record(out)
    settings = list(_differences(record.fingerprint, fingerprint, are_digests=True))
    # Other attacks, probes, pairs or test sets make other cells, so these say something only where nothing else does.
    settings = [each for each in settings if not each.startswith("cells: ")] or settings
    versions = _differences(
        compared_versions(record.versions), compared_versions(library_versions()), are_digests=False
    )
    changed = [*settings, *versions]
    if changed:
        raise RunError(
            f"{out}: holds a run with other settings (different: {'; '.join(changed)}); give --out another folder, "
            "or repeat the command that started it, with the same files and libraries"
        )


def _differences(before: Mapping[str, str], now: Mapping[str, str], *, are_digests: bool) -> Iterator[str]:
    for topic in sorted(before.keys() | now.keys()):
        old, new = before.get(topic), now.get(topic)
        if old == new:
            continue
        if old is None or new is None:
            yield f"{topic} ({'was not in it' if old is None else 'no longer asked for'})"
        elif are_digests and ": " in topic:
            yield f"{topic} (changed)"
        else:
            yield f"{topic} ({old} -> {new})"


def write_record(out: Path, record: RunRecord) -> None:
    """Writes run.json in one step, durably."""
    replace_durably(out / FILE_NAME, record.model_dump_json(indent=2) + "\n")


@contextmanager
def hold_record(out: Path) -> Iterator[None]:
    """Waits until no other process changes run.json or writes tables, then keeps the others waiting.

    A process that holds it for longer than PATIENCE has stopped, or writes large tables; then this one does not wait.
    Every file is replaced in one step, so that at worst an older table replaces a newer one.
    """
    with hold(out / FILE_NAME, PATIENCE):
        yield


def update_record(out: Path, **changes: object) -> None:
    """Changes entries of run.json and keeps what other processes wrote of the rest."""
    with hold_record(out):
        record = read_record(out)
        new = record.model_copy(update=changes)
        if new != record:
            write_record(out, new)


def read_record(out: Path) -> RunRecord:
    """Reads run.json; raises RunError if it is missing or invalid."""
    path = out / FILE_NAME
    if not path.is_file():
        raise RunError(f"{out}: no {FILE_NAME}; expected a folder that `robustness run` wrote")
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        writer = find_other_release(out)
        if writer is not None:
            raise RunError(f"{path}: {explain_other_release(out, writer)}") from None
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{path}: not as `robustness run` wrote it: {where}: {first['msg']}") from None


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
