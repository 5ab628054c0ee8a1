"""What a run will do: a suite and a pairs file to cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustness.definitions.catalog import ATTACKS, SUITES, TESTSETS, Entry
from robustness.definitions.pairs import Pair, read_pairs
from robustness.definitions.tasks import Head, find_task
from robustness.definitions.testsets import TestsetDefinition
from robustness.engine.attack import Access, AnswerAttack, NamedAttack, Search
from robustness.engine.evaluation import NO_ATTACK
from robustness.errors import DataError, UsageError
from robustness.recipes.building import find_attack, name_attack
from robustness.testsets.example import Example


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Everything the outcomes of a run depend on, as the caller gives it."""

    suite: str
    pairs: Path
    data: Path | None = None
    testsets: tuple[str, ...] = ()
    """Replace the suite's own list; empty keeps it."""
    attacks: tuple[str | object, ...] = ()
    """Names, recipe files, `file.py:Name`, or attack objects; replace the suite's own list."""
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "float32"
    allow_changed: bool = False
    """Evaluate test sets that are not the published ones; tables say `changed`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The unit of work and of resuming: one checkpoint, test set and attack."""

    checkpoint: str
    testset: str
    attack: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a run with what they name."""

    settings: RunSettings
    pairs: tuple[Pair, ...]
    testsets: tuple[Entry[TestsetDefinition], ...]
    attacks: tuple[NamedAttack, ...]
    cells: tuple[Cell, ...]
    limit: int | None
    unserved: tuple[str, ...]
    """Test sets whose task no pair has."""

    def fingerprint(self) -> dict[str, str]:
        """What a second run into the same folder must share, by topic."""
        return {
            "pairs": digest_of([[p.name, p.task, p.full_name, p.peft_name, p.seed] for p in self.pairs]),
            "testsets": digest_of([[entry.name, entry.digest] for entry in self.testsets]),
            "attacks": digest_of([[attack.name, attack.digest] for attack in self.attacks]),
            "limit": str(self.limit),
            "seed": str(self.settings.seed),
            "dtype": self.settings.dtype,
            "changed": str(self.settings.allow_changed),
        }


def make_plan(settings: RunSettings) -> Plan:
    """Resolves all names and lists the cells; loads no model and no data.

    Raises:
        UsageError: a limit below 1, or no test set for any pair.
        DefinitionError: an unknown name or a malformed file.
    """
    if settings.limit is not None and settings.limit < 1:
        raise UsageError(f"--limit {settings.limit}: expected at least 1 example")
    suite = SUITES.find(settings.suite).definition
    pairs = read_pairs(settings.pairs)
    testsets = tuple(TESTSETS.find(name) for name in dict.fromkeys(settings.testsets or suite.testsets))
    named = tuple(_resolve(attack) for attack in settings.attacks)
    attacks = named or tuple(_resolve_or_postpone(attack) for attack in suite.attacks)
    _refuse_repeated([attack.name for attack in attacks])
    tasks = {pair.task for pair in pairs}
    served = tuple(entry for entry in testsets if entry.definition.task in tasks)
    unserved = tuple(entry.name for entry in testsets if entry.definition.task not in tasks)
    if not served:
        raise UsageError(
            f"suite {settings.suite}: no pair in {settings.pairs} has the task of any of its test sets "
            f"({', '.join(unserved)}); the pairs' tasks are {', '.join(sorted(tasks))}"
        )
    return Plan(
        settings=settings,
        pairs=pairs,
        testsets=served,
        attacks=attacks,
        cells=_list_cells(pairs, served, attacks),
        limit=settings.limit if settings.limit is not None else suite.limit,
        unserved=unserved,
    )


def _resolve(attack: str | object) -> NamedAttack:
    if isinstance(attack, NamedAttack):
        return attack
    return find_attack(attack) if isinstance(attack, str) else name_attack(attack)


class Unready:
    """Stands for a suite's attack that lacks an asset: each of its examples is errored with that reason."""

    access = Access.SCORES

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Raises DataError with the reason."""
        del example, rng
        raise DataError(self._reason)
        yield []  # makes this a generator


def _resolve_or_postpone(name: str) -> NamedAttack:
    """A suite goes on without the attacks whose assets are missing; the digest is the recipe's own."""
    try:
        return find_attack(name)
    except DataError as error:
        entry = ATTACKS.find(name)
        return NamedAttack(entry.name, entry.digest, Unready(str(error)), entry.definition.family)


def _refuse_repeated(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--attack {name}: named twice")


def _list_cells(
    pairs: Sequence[Pair], testsets: Sequence[Entry[TestsetDefinition]], attacks: Sequence[NamedAttack]
) -> tuple[Cell, ...]:
    """Checkpoint by checkpoint, so that each is loaded once; a shared full checkpoint appears once."""
    checkpoints: dict[str, Pair] = {}
    for pair in pairs:
        for name in (pair.full_name, pair.peft_name):
            first = checkpoints.setdefault(name, pair)
            if (first.task, first.base) != (pair.task, pair.base):
                raise UsageError(
                    f"checkpoint {name}: pairs {first.name} and {pair.name} disagree on its task or base; "
                    "mend the pairs file"
                )
    return tuple(
        Cell(checkpoint, entry.name, attack)
        for checkpoint, pair in checkpoints.items()
        for entry in testsets
        if entry.definition.task == pair.task
        for attack in (NO_ATTACK, *(attack.name for attack in attacks if _fits(attack, entry.definition)))
    )


def _fits(attack: NamedAttack, testset: TestsetDefinition) -> bool:
    """Attacks on answers run on questions alone; sets that are searched for against each checkpoint are attacks."""
    if testset.test.generated is not None and testset.test.generated.needs_checkpoint:
        return False
    return isinstance(attack.attack, AnswerAttack) == (find_task(testset.task).head is Head.ANSWERING)


def digest_of(content: object) -> str:
    """Sixteen hex digits of anything JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
