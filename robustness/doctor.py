"""What is ready on this machine, and what is missing: per attack and per test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.catalog import ATTACKS, TESTSETS, Entry
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import RobustnessError
from robustness.recipes.assets.registry import Asset
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.recipes.textattack.catalogue import check_recipes
from robustness.testsets.loading import load_testset

WORDS = {"hub": "to be downloaded from the hub at first use"}
"""States in words, where they are others."""


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


def summarise(found: Sequence[Diagnosis], lacking: Sequence[Asset]) -> Iterator[str]:
    """Yields how many attacks and test sets are ready, and how to get the assets that are missing.

    Args:
        found: what was diagnosed.
        lacking: the assets that are not there.
    """
    for kind in dict.fromkeys(each.kind for each in found):
        states = Counter(each.state for each in found if each.kind == kind)
        yield f"{kind}s: {', '.join(f'{count} {WORDS.get(state, state)}' for state, count in states.items())}"
    if lacking:
        sizes = [file.size for asset in lacking for file in asset.files]
        known, least = sum(size or 0 for size in sizes) / 1e6, "at least " if None in sizes else ""
        size = f" ({least}{known:,.0f} MB)" if known else ""
        yield f"assets: {len(lacking)} missing; `robustness assets get --missing` downloads them{size}"


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
