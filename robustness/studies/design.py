"""A study with its names resolved: which checkpoints it trains, and which runs compare them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

from robustness.definitions.catalog import SUITES, TESTSETS, Entry
from robustness.definitions.studies import FULL, StudyDefinition, StudyFile, StudyMethod
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.tasks import task_of_testset
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import CheckpointError, DefinitionError, UsageError
from robustness.paths import expand
from robustness.recipes.augmenting import find_rewriting_recipe
from robustness.tasks.task import Task
from robustness.training.defences import Defence, TrainedMethod, defend, refuse_alike, split_defence
from robustness.training.demo import find_demo_base
from robustness.training.methods import MethodDefinition, find_method
from robustness.training.methods.variants import vary
from robustness.training.protocol import TrainingSettings, under_protocol
from robustness.victims.files.checkpoint import locate

DEMO_BASE = "demo"


class Matching(StrEnum):
    """Which epoch of a candidate is compared with the best one of its full arm."""

    BEST = "best"
    """Its best."""
    CLEAN = "clean"
    """The one whose clean score is nearest."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One method of the study, with the values that the study gives it."""

    trained: TrainedMethod
    """Under the variant's name, such as lora-r8 or lora-r8+freelb."""
    family: str
    """The name of the method's file, with what is added to its training: doses are compared within a family."""
    parameters: Mapping[str, Any]

    @property
    def method(self) -> Entry[MethodDefinition]:
        """What is trained, under the variant's name."""
        return self.trained.method

    @property
    def defence(self) -> Defence:
        """What is added to its training."""
        return self.trained.defence

    @property
    def name(self) -> str:
        """The name in folders and tables."""
        return self.method.name


@dataclass(frozen=True, slots=True)
class PlannedCheckpoint:
    """One checkpoint that the study trains."""

    name: str
    testset: Entry[TestsetDefinition]
    variant: Variant
    seed: int
    rows: int | None
    """Maximum of training rows; None: all."""
    settings: TrainingSettings

    @property
    def is_reference(self) -> bool:
        """Whether it is plain full fine-tuning, with which all others of its seed are compared."""
        return self.variant.name == FULL

    @property
    def is_peft(self) -> bool:
        """Whether an adapter is trained."""
        return self.variant.method.definition.is_peft


@dataclass(frozen=True, slots=True)
class Group:
    """Checkpoints of one task and one number of training rows, which are compared with each other."""

    label: str
    """In names of files, such as sst2 or sst2-n500."""
    task: Task
    testset: Entry[TestsetDefinition]
    rows: int | None
    checkpoints: tuple[PlannedCheckpoint, ...]

    @property
    def reference(self) -> str:
        """The name of the test set that it trains on, or the path of the file."""
        return self.testset.name if TESTSETS.has_shipped(self.testset) else str(self.testset.path)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run folder: a suite on all pairs of a group, at one matching."""

    group: Group
    matching: Matching
    suite: Entry[SuiteDefinition]

    @property
    def reference(self) -> str:
        """The name of the suite, or the path of its file."""
        return self.suite.name if SUITES.has_shipped(self.suite) else str(self.suite.path)

    @property
    def name(self) -> str:
        """The folder's name below `runs`."""
        return f"{self.group.label}-{self.matching}-{self.suite.name}"


@dataclass(frozen=True, slots=True)
class Design:
    """A study, resolved."""

    file: StudyFile
    base: Path
    base_reference: str
    """The base's name in files of checkpoints: an absolute folder, or a hub id."""
    data: Path | None
    variants: tuple[Variant, ...]
    groups: tuple[Group, ...]
    runs: tuple[PlannedRun, ...]

    @property
    def definition(self) -> StudyDefinition:
        """The file's content."""
        return self.file.definition

    @property
    def checkpoints(self) -> Iterator[PlannedCheckpoint]:
        """Those of all groups."""
        return (each for group in self.groups for each in group.checkpoints)


def resolve(file: StudyFile, data: Path | None) -> Design:
    """Returns a study with its names resolved; loads no weights and no rows.

    Raises:
        DefinitionError: an unknown method, parameter, recipe, task or suite; two tasks that are one; a suite without
            a test set for any of the tasks.
        UsageError: training settings that do not fit together, or a test set without training rows.
        CheckpointError: the base is not there.
    """
    where = str(file.path)
    base, reference = _find_base(file)
    variants = tuple(_variants(file))
    refuse_alike([each.trained for each in variants], f"{where}: key 'methods'")
    testsets = _find_tasks(file)
    suites = [_find(SUITES.find, file, name, "suites") for name in file.definition.suites]
    groups = tuple(
        _group(file, variants, entry, task, rows)
        for (entry, task), rows in product(testsets, file.definition.rows or (None,))
    )
    runs = tuple(_runs(file, groups, suites))
    _refuse_unserved(file, groups, suites, runs)
    return Design(file, base, reference, data, variants, groups, runs)


def _find_base(file: StudyFile) -> tuple[Path, str]:
    given = file.definition.base
    beside = file.path.parent / expand(given)
    try:
        if given == DEMO_BASE and not beside.is_dir():
            folder = find_demo_base()
            return folder, str(folder)
        folder = locate(str(beside) if beside.is_dir() else given, f"{file.path}: key 'base'")
    except UsageError as error:
        raise CheckpointError(f"{file.path}: key 'base': {error}") from None
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{file.path}: key 'base': {folder} has no config.json; expected a folder that save_pretrained wrote, or "
            "a hub id"
        )
    return folder, given if not beside.is_dir() else str(folder)


def _variants(file: StudyFile) -> Iterator[Variant]:
    for place, table in enumerate(file.definition.methods):
        method, defence = find_study_method(file, table)
        if defence.recipe:
            _find(find_rewriting_recipe, file, defence.recipe, "methods")
        for parameters in table.combinations():
            varied = vary(method, parameters, str(file.path), ["methods", place])
            yield Variant(defend(varied, defence), defend(method, defence).method.name, parameters)


def find_study_method(file: StudyFile, table: StudyMethod) -> tuple[Entry[MethodDefinition], Defence]:
    """Returns what a table's `method` names: the method as in its file, and what is added to its training.

    Raises:
        DefinitionError: an unknown method, or a malformed addition.
    """
    try:
        plain, defence = split_defence(table.method, table.method)
    except UsageError as error:
        raise DefinitionError(f"{file.path}: key 'methods': {error}") from None
    return _find(find_method, file, plain, "methods"), defence


def _find(find: Any, file: StudyFile, name: str, key: str) -> Any:
    try:
        return find(file.beside(name))
    except (DefinitionError, UsageError) as error:
        raise DefinitionError(f"{file.path}: key {key!r}: {error}") from None


def _find_tasks(file: StudyFile) -> list[tuple[Entry[TestsetDefinition], Task]]:
    found: dict[str, tuple[Entry[TestsetDefinition], Task]] = {}
    for name in file.definition.tasks:
        entry: Entry[TestsetDefinition] = _find(TESTSETS.find, file, name, "tasks")
        task = task_of_testset(entry.path, entry.definition)
        if entry.definition.train is None:
            raise DefinitionError(
                f"{file.path}: key 'tasks': {name} has no training split; name a clean set with one"
            )
        other = found.setdefault(task.name, (entry, task))[0]
        if other is not entry:
            raise DefinitionError(
                f"{file.path}: key 'tasks': {other.name} and {entry.name} train one task, {task.name}; give each a "
                "study of its own"
            )
    return list(found.values())


def _group(
    file: StudyFile, variants: Sequence[Variant], testset: Entry[TestsetDefinition], task: Task, rows: int | None
) -> Group:
    label = testset.name if rows is None else f"{testset.name}-n{rows}"
    checkpoints = tuple(
        _checkpoint(file, variant, testset, task, rows, seed, f"{label}-{variant.name}-seed{seed}")
        for seed, variant in product(file.definition.seeds, variants)
    )
    return Group(label, task, testset, rows, checkpoints)


def _checkpoint(
    file: StudyFile,
    variant: Variant,
    testset: Entry[TestsetDefinition],
    task: Task,
    rows: int | None,
    seed: int,
    name: str,
) -> PlannedCheckpoint:
    chosen = file.definition.training
    try:
        settings = TrainingSettings.of(chosen, adversarial=chosen.adversarial).under(variant.defence)
        made = PlannedCheckpoint(name, testset, variant, seed, rows, settings)
        if file.definition.match == "clean" and not made.is_reference:
            made = replace(made, settings=replace(settings, match="clean"))
        under_protocol(variant.method, task.name, made.settings)
    except UsageError as error:
        raise DefinitionError(f"{file.path} [training]: {str(error).removeprefix('--')}") from None
    return made


def _runs(file: StudyFile, groups: Sequence[Group], suites: Sequence[Entry[SuiteDefinition]]) -> Iterator[PlannedRun]:
    matchings = [Matching.BEST]
    if file.definition.match == "clean" and {each.method for each in file.definition.methods} != {FULL}:
        matchings.append(Matching.CLEAN)
    for group, matching, suite in product(groups, matchings, suites):
        if serves(suite.definition, group.task):
            yield PlannedRun(group, matching, suite)


def serves(suite: SuiteDefinition, task: Task) -> bool:
    """Whether a suite has a test set of a task."""
    return bool(served(suite, task))


def served(suite: SuiteDefinition, task: Task) -> list[Entry[TestsetDefinition]]:
    """Returns a suite's test sets of a task."""
    entries = [TESTSETS.find(name) for name in dict.fromkeys((*suite.testsets, *suite.evaluated))]
    return [entry for entry in entries if task_of_testset(entry.path, entry.definition).name == task.name]


def _refuse_unserved(
    file: StudyFile, groups: Sequence[Group], suites: Sequence[Entry[SuiteDefinition]], runs: Sequence[PlannedRun]
) -> None:
    for suite in suites:
        if all(run.suite is not suite for run in runs):
            raise DefinitionError(
                f"{file.path}: key 'suites': {suite.name} has no test set of the task "
                f"{' or '.join(dict.fromkeys(group.task.name for group in groups))}; leave it out"
            )
    for group in groups:
        if all(run.group is not group for run in runs):
            raise DefinitionError(
                f"{file.path}: key 'tasks': no suite has a test set of {group.task.name}; add a suite that has"
            )
