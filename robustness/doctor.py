"""What is ready on this machine, and what is missing: per attack and per test set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.catalog import ATTACKS, TESTSETS, Entry
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import RobustnessError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.recipes.textattack.catalogue import check_recipes
from robustness.testsets.loading import load_testset


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One attack or test set."""

    kind: str
    name: str
    state: str
    """ready, missing, or hub: to be downloaded at first use, which was not tried."""
    detail: str


def diagnose(data: Path | None) -> Iterator[Diagnosis]:
    """Builds every attack, TextAttack's too, and reads every test set that a local file serves; downloads nothing."""
    resources = Resources.of(data)
    for name in ATTACKS.names():
        yield _diagnose_attack(name, resources)
    for name, problem in _diagnose_textattack(resources):
        yield Diagnosis("attack", f"textattack:{name}", "missing" if problem else "ready", problem)
    for name in TESTSETS.names():
        yield _diagnose_testset(TESTSETS.find(name), data)


def _diagnose_attack(name: str, resources: Resources) -> Diagnosis:
    try:
        find_attack(name, resources)
    except RobustnessError as error:
        return Diagnosis("attack", name, "missing", str(error))
    return Diagnosis("attack", name, "ready", "")


def _diagnose_textattack(resources: Resources) -> list[tuple[str, str]]:
    try:
        return list(check_recipes(resources))
    except RobustnessError as error:
        return [("*", str(error))]


def _diagnose_testset(entry: Entry[TestsetDefinition], data: Path | None) -> Diagnosis:
    hub = entry.definition.test.hub
    is_packaged = any(source.root == "package" for source in entry.definition.test.local)
    if data is None and not is_packaged and hub is not None:
        return Diagnosis(
            "test set", entry.name, "hub", f"{hub.dataset} {hub.config} at {hub.revision[:8]}, or --data"
        )
    try:
        testset = load_testset(entry, data)
    except RobustnessError as error:
        return Diagnosis("test set", entry.name, "missing", str(error))
    return Diagnosis("test set", entry.name, "ready", f"{len(testset.examples)} rows, {testset.provenance}")
