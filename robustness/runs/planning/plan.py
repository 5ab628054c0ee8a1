"""The plan of a run: turns a suite and a pairs file into cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from robustness.definitions.catalog import SUITES, TESTSETS, Entry
from robustness.definitions.naming import nearest_of
from robustness.definitions.pairs import Pair, read_pairs
from robustness.definitions.seeds import refuse_seed
from robustness.definitions.suites import SuiteDefinition
from robustness.definitions.tasks import task_of_testset
from robustness.definitions.testsets import TestsetDefinition
from robustness.engine.attack import Access, Search
from robustness.engine.named_attack import NamedAttack
from robustness.engine.needs import needs_of
from robustness.errors import DataError, DefinitionError, UsageError
from robustness.options import RunSettings
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack, find_recipe, name_attack, name_recipe
from robustness.runs.cells import NO_ATTACK, RESERVED, Cell, ProbeCell
from robustness.runs.planning.serving import Lack, describe_lacks, find_lacks, refuse_lacks
from robustness.sensitivity.building import find_probe, name_probe
from robustness.sensitivity.measurement import Space
from robustness.sensitivity.probe import NamedProbe
from robustness.tasks.abilities import declared_needs
from robustness.tasks.task import Task
from robustness.testsets.example import Example


class PlanSettings(RunSettings):
    """Everything the outcomes of a run depend on."""

    suite: str
    pairs: Path | Pair
    """A pairs file, or the one pair."""
    data: Path | None = None
    cache: Path | None = None

    @property
    def resources(self) -> Resources:
        """Data folders of recipes and probes, and the device of recipes' own models."""
        return Resources.of(self.data, self.device)

    @property
    def arithmetic(self) -> str:
        """The dtype, and the kernels if they are compiled."""
        return f"{self.dtype}, compiled" if self.compile else self.dtype


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a run with all named objects."""

    settings: PlanSettings
    pairs: tuple[Pair, ...]
    testsets: tuple[Entry[TestsetDefinition], ...]
    attacks: tuple[NamedAttack, ...]
    cells: tuple[Cell, ...]
    limit: int | None
    attacked: int | None
    """Number of attacked rows of each test set, among rows that both arms have right; None: all rows."""
    unserved: tuple[str, ...]
    """Test sets without a pair of their task."""
    left_out: tuple[str, ...] = ()
    """Sentences about a suite's attacks that a checkpoint cannot serve."""
    probes: tuple[NamedProbe, ...] = ()
    probe_cells: tuple[ProbeCell, ...] = ()

    @property
    def attack_references(self) -> tuple[str | object, ...]:
        """The reference of each attack: the caller's names or objects, else the suite's names."""
        return tuple(self.settings.attacks) or tuple(SUITES.find(self.settings.suite).definition.attacks)

    def fingerprint(self) -> dict[str, str]:
        """Properties that a second run into the same folder must share: digests by `kind: name`, and settings."""
        named = {f"probes: {each.name}": digest_of([each.digest, each.examples]) for each in self.probes}
        named |= {f"pairs: {p.name}": digest_of(_identity_of(p)) for p in self.pairs}
        named |= {f"tasks: {p.task.name}": digest_of(asdict(p.task) | {"file": ""}) for p in self.pairs}
        named |= {f"testsets: {entry.name}": entry.digest for entry in self.testsets}
        named |= {f"attacks: {attack.name}": attack.digest for attack in self.attacks}
        named |= {f"cells: {where or 'all test sets'}": digest_of(each) for where, each in self._cells_by_testset()}
        return named | {
            "limit": str(self.limit),
            "attacked": "all" if self.attacked is None else f"{self.attacked} that both arms have right",
            "seed": str(self.settings.seed),
            "dtype": self.settings.arithmetic,
            "changed": str(self.settings.allow_changed),
            "attack fields": ", ".join(self.settings.attack_fields) or "the tasks' own",
            "untrained": str(self.settings.allow_untrained),
        }

    def _cells_by_testset(self) -> Iterator[tuple[str, list[list[str]]]]:
        found: dict[str, list[list[str]]] = {}
        for cell in self.cells:
            found.setdefault(cell.testset, []).append(["attack", cell.checkpoint, cell.attack])
        for probe in self.probe_cells:
            found.setdefault(probe.testset, []).append(["probe", probe.checkpoint, probe.probe])
        yield from ((testset, sorted(each)) for testset, each in found.items())

    def without(self, pairs: Collection[str]) -> Plan:
        """Returns the plan without these pairs and everything that only they need."""
        kept = tuple(pair for pair in self.pairs if pair.name not in pairs)
        checkpoints = {name for pair in kept for name in pair.names}
        cells = tuple(cell for cell in self.cells if cell.checkpoint in checkpoints)
        served = {cell.testset for cell in cells}
        return replace(
            self,
            pairs=kept,
            testsets=tuple(entry for entry in self.testsets if entry.name in served),
            cells=cells,
            probe_cells=tuple(cell for cell in self.probe_cells if cell.checkpoint in checkpoints),
        )


def _identity_of(pair: Pair) -> list[object]:
    optional = [each for each in (pair.labels, pair.base_precision) if each]
    return [pair.task.name, *pair.names, pair.seed, *optional]


def make_plan(settings: PlanSettings) -> Plan:
    """Resolves all names and lists the cells; loads no model and no data.

    Raises:
        UsageError: a seed or a limit out of range, or no test set for any pair.
        DefinitionError: an unknown name or a malformed file.
    """
    refuse_seed(settings.seed)
    if settings.limit is not None and settings.limit < 1:
        raise UsageError(f"--limit {settings.limit}: expected at least 1 example")
    suite = SUITES.find(settings.suite).definition
    _refuse_code(settings.suite, [*suite.attacks, *suite.probes])
    pairs = _read_pairs(settings)
    listed = settings.testsets or (*suite.testsets, *suite.evaluated)
    testsets = tuple(TESTSETS.find(str(name)) for name in dict.fromkeys(listed))
    named = tuple(_resolve(attack, settings.resources) for attack in settings.attacks)
    attacks = named or tuple(resolve_or_postpone(attack, settings.resources) for attack in suite.attacks)
    _refuse_repeated("--attack", [attack.name for attack in attacks])
    probes = _resolve_probes(settings, suite)
    tasks = _match_tasks(pairs, testsets)
    _refuse_fields(settings.attack_fields, [pair.task for pair in pairs])
    served = tuple(entry for entry in testsets if entry.name in tasks)
    untouched = [TESTSETS.find(name).name for name in (() if settings.testsets else suite.evaluated)]
    probed = tuple(entry for entry in served if entry.name not in untouched)
    evaluated = [pair for pair in pairs if any(task == pair.task for task in tasks.values())]
    lacks = find_lacks(evaluated, {attack.name: needs_of(attack.attack) for attack in attacks})
    refuse_lacks("attack", lacks if named else ())
    refuse_lacks(
        "probe",
        find_lacks(evaluated, {each.name: declared_needs(each.probe) for each in probes if settings.probes}),
    )
    unserved = tuple(entry.name for entry in testsets if entry.name not in tasks)
    if not served:
        where = "" if isinstance(settings.pairs, Pair) else f" in {settings.pairs}"
        raise UsageError(
            f"suite {settings.suite}: no pair{where} has the task of any of its test sets "
            f"({', '.join(unserved)}); the pairs' tasks are {', '.join(sorted({pair.task.name for pair in pairs}))}; "
            "give a test set of such a task: --testset NAME, or a file of your own (docs/testsets.md)"
        )
    return Plan(
        settings=settings,
        pairs=pairs,
        testsets=served,
        attacks=attacks,
        cells=_without(lacks, _list_cells(pairs, served, tasks, attacks), untouched),
        limit=settings.limit if settings.limit is not None else suite.limit,
        attacked=suite.attacked,
        unserved=unserved,
        left_out=describe_lacks(lacks),
        probes=probes,
        probe_cells=_list_probe_cells(pairs, probed, tasks, probes),
    )


def _read_pairs(settings: PlanSettings) -> tuple[Pair, ...]:
    """The pairs, each with the base's precision that the caller has chosen for all, if any."""
    pairs = (settings.pairs,) if isinstance(settings.pairs, Pair) else read_pairs(settings.pairs)
    if settings.base_precision is None:
        return pairs
    return tuple(replace(pair, base_precision=settings.base_precision) for pair in pairs)


def _match_tasks(pairs: Sequence[Pair], testsets: Sequence[Entry[TestsetDefinition]]) -> dict[str, Task]:
    """The task of each test set with a pair; two tasks of one name must be equal."""
    known: dict[str, tuple[Task, str]] = {}
    for pair in pairs:
        task, where = known.setdefault(pair.task.name, (pair.task, f"pair {pair.name}"))
        _refuse_other_task(task, where, pair.task, f"pair {pair.name}")
    found = {}
    for entry in testsets:
        task = task_of_testset(entry.path, entry.definition)
        if task.name in known:
            _refuse_other_task(*known[task.name], task, f"test set {entry.name}")
            found[entry.name] = known[task.name][0]
    return found


def _refuse_other_task(task: Task, where: str, other: Task, there: str) -> None:
    if task != other:
        names = [f.name for f in fields(Task) if f.compare and getattr(task, f.name) != getattr(other, f.name)]
        raise UsageError(
            f"task {task.name}: that of {there} ({other.file}) is not that of {where} ({task.file}): they differ in "
            f"{', '.join(names)}; let both name one file"
        )


def _refuse_fields(names: Sequence[str], tasks: Sequence[Task]) -> None:
    """Checks that every task has at least one of the fields, and every field a task."""
    known = {name for task in tasks for name in task.fields}
    for name in names:
        if name not in known:
            raise UsageError(f"--attack-field {name}: no task of the pairs has such a field{nearest_of(name, known)}")
    for task in tasks:
        task.attacking(names)


def _resolve(attack: str | object, resources: Resources) -> NamedAttack:
    if isinstance(attack, NamedAttack):
        return attack
    return find_attack(attack, resources) if isinstance(attack, str) else name_attack(attack, resources)


class Unready:
    """Replaces a suite's attack that lacks an asset: errors each of its examples with this reason."""

    access = Access.SCORES

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Raises DataError, with the reason."""
        del example, rng
        raise DataError(self._reason)
        yield []  # makes this a generator


def resolve_or_postpone(name: str, resources: Resources) -> NamedAttack:
    """Returns an attack by name; without its assets, one that errors its examples and has the recipe's digest.

    So a suite continues without incomplete attacks.
    """
    try:
        return find_attack(name, resources)
    except DataError as error:
        return name_recipe(find_recipe(name), Unready(str(error)))


def _resolve_probes(settings: PlanSettings, suite: SuiteDefinition) -> tuple[NamedProbe, ...]:
    """The caller's probes, or else the suite's; the suite's parameters apply to both."""
    for name in suite.parameters:
        if name not in suite.probes:
            raise DefinitionError(
                f"suite {settings.suite} [parameters.{name}]: not among its probes{nearest_of(name, suite.probes)}"
            )
    probes = tuple(
        find_probe(probe, suite.parameters.get(probe)) if isinstance(probe, str) else name_probe(probe)
        for probe in settings.probes or suite.probes
    )
    _refuse_repeated("--probe", [probe.name for probe in probes])
    return probes


def _refuse_code(suite: str, names: Sequence[str]) -> None:
    """A definition is data: only the caller, on the command line, may name a file to run."""
    for name in names:
        if ".py:" in name or name.endswith(".py"):
            raise DefinitionError(
                f"suite {suite}: names {name!r}, whose code would be run; a definition cannot. If you trust "
                f"that file, name it yourself: --attack {name}, or --probe"
            )


def _refuse_repeated(option: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option} {name}: named twice")
        if name in RESERVED:
            raise UsageError(f"{option} {name}: tables use this name for rows of their own; give it another")


def _list_probe_cells(
    pairs: Sequence[Pair],
    testsets: Sequence[Entry[TestsetDefinition]],
    tasks: Mapping[str, Task],
    probes: Sequence[NamedProbe],
) -> tuple[ProbeCell, ...]:
    """Checkpoint by checkpoint; a probe of structure has one cell for all test sets.

    Sets searched against each checkpoint have no examples before the search.
    """
    checkpoints = {name: pair.task for pair in pairs for name in pair.names}
    fixed = [entry for entry in testsets if not _is_searched(entry.definition)]
    return tuple(
        ProbeCell(checkpoint, testset, probe.name)
        for checkpoint, task in checkpoints.items()
        for probe in probes
        for testset in (
            [""]
            if probe.probe.space is Space.STRUCTURE
            else [entry.name for entry in fixed if tasks[entry.name] == task]
        )
        if any(tasks[entry.name] == task for entry in fixed)
    )


def _list_cells(
    pairs: Sequence[Pair],
    testsets: Sequence[Entry[TestsetDefinition]],
    tasks: Mapping[str, Task],
    attacks: Sequence[NamedAttack],
) -> tuple[Cell, ...]:
    """Checkpoint by checkpoint, so that each is loaded once; a shared full checkpoint appears once."""
    checkpoints: dict[str, Pair] = {}
    for pair in pairs:
        for name in pair.names:
            first = checkpoints.setdefault(name, pair)
            if (first.task, first.base, first.labels) != (pair.task, pair.base, pair.labels):
                raise UsageError(
                    f"checkpoint {name}: pairs {first.name} and {pair.name} disagree on its task, base or labels; "
                    "mend the pairs file"
                )
    return tuple(
        Cell(checkpoint, entry.name, attack)
        for checkpoint, pair in checkpoints.items()
        for entry in testsets
        if tasks[entry.name] == pair.task
        # Sets searched against each checkpoint are attacks themselves.
        for attack in (NO_ATTACK, *(a.name for a in attacks if not _is_searched(entry.definition)))
    )


def _without(lacks: Sequence[Lack], cells: Sequence[Cell], untouched: Collection[str]) -> tuple[Cell, ...]:
    unserved = {(lack.checkpoint, lack.asking) for lack in lacks}
    return tuple(
        cell
        for cell in cells
        if (cell.checkpoint, cell.attack) not in unserved
        and (cell.attack == NO_ATTACK or cell.testset not in untouched)
    )


def _is_searched(testset: TestsetDefinition) -> bool:
    return testset.test.generated is not None and testset.test.generated.needs_checkpoint


def digest_of(content: object) -> str:
    """Sixteen hex digits of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def command_words(settings: PlanSettings) -> tuple[str, ...]:
    """The command line that repeats a run, without `--out`; objects of attacks and probes appear by name."""
    words = ["robustness", "run", settings.suite, *_spell_pairs(settings.pairs)]
    words += [] if settings.data is None else ["--data", str(settings.data)]
    words += [word for name in settings.testsets for word in ("--testset", str(name))]
    words += [word for attack in settings.attacks for word in ("--attack", _spell(attack))]
    words += [word for probe in settings.probes for word in ("--probe", _spell(probe))]
    words += [] if settings.limit is None else ["--limit", str(settings.limit)]
    words += ["--seed", str(settings.seed), "--device", settings.device, "--dtype", settings.dtype]
    words += [word for name in settings.attack_fields for word in ("--attack-field", name)]
    words += [] if settings.base_precision is None else ["--base-precision", settings.base_precision]
    words += ["--allow-changed-testset"] if settings.allow_changed else []
    words += ["--allow-untrained"] if settings.allow_untrained else []
    words += ["--compile"] if settings.compile else []
    words += [] if settings.cache is None else ["--cache", str(settings.cache)]
    return tuple(words)


def _spell_pairs(pairs: Path | Pair) -> list[str]:
    if isinstance(pairs, Path):
        return ["--pairs", str(pairs)]
    task = pairs.task.file or pairs.task.name
    words = ["--reference", pairs.reference, "--candidate", pairs.candidate, "--task", task]
    words += ["--base", pairs.base]
    return [*words, *(word for given, label in pairs.labels for word in ("--label", f"{given}={label}"))]


def _spell(named: str | object) -> str:
    if isinstance(named, str):
        return named
    if isinstance(named, NamedAttack | NamedProbe):
        return named.name
    return getattr(named, "__name__", type(named).__name__)
