"""The attacks and probes of a run, as the driver has them, and as a worker finds them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, final

from robustness.definitions.catalog import SUITES
from robustness.definitions.suites import ParameterValue
from robustness.engine.named_attack import NamedAttack
from robustness.errors import DataError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.runs.planning.plan import Plan, Unready, resolve_or_postpone
from robustness.sensitivity.building import find_probe
from robustness.sensitivity.probe import NamedProbe
from robustness.workers.packing import refuse_unsendable

T = TypeVar("T", NamedAttack, NamedProbe)


@final
class PlannedDefinitions:
    """The plan's own objects.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self._attacks = {attack.name: attack for attack in plan.attacks}
        self._probes = {probe.name: probe for probe in plan.probes}

    def attack(self, name: str) -> NamedAttack | None:
        """Returns an attack; None for `none`."""
        return self._attacks.get(name)

    def probe(self, name: str) -> NamedProbe:
        """Returns a probe."""
        return self._probes[name]


@dataclass(frozen=True, slots=True)
class References:
    """References to all attacks and probes for another process; files are absolute."""

    attacks: Mapping[str, str | NamedAttack]
    """By name: the attack's reference, or the attack itself if it was given as an object."""
    ready: frozenset[str]
    """Attacks that were complete on the driver's machine."""
    probes: Mapping[str, str | NamedProbe]
    parameters: Mapping[str, Mapping[str, ParameterValue]]
    """Of the suite for probes, by the probe's name."""
    digests: Mapping[str, str]
    """By `attack NAME` and `probe NAME`."""
    resources: Resources


def refer(plan: Plan, resources: Resources) -> References:
    """Returns references to everything that workers need of a plan.

    Raises:
        UsageError: an attack or a probe given as an object cannot be pickled.
    """
    suite = SUITES.find(plan.settings.suite).definition
    probes = plan.settings.probes or suite.probes
    named = zip(probes, plan.probes, strict=True)
    return References(
        attacks=dict(_refer("attack", zip(plan.attack_references, plan.attacks, strict=True))),
        ready=frozenset(attack.name for attack in plan.attacks if not isinstance(attack.attack, Unready)),
        probes=dict(_refer("probe", zip(probes, plan.probes, strict=True))),
        parameters={
            probe.name: suite.parameters[given]
            for given, probe in named
            if isinstance(given, str) and given in suite.parameters
        },
        digests={f"attack {each.name}": each.digest for each in plan.attacks}
        | {f"probe {each.name}": each.digest for each in plan.probes},
        resources=resources,
    )


def _refer(kind: str, given: Iterable[tuple[object, T]]) -> Iterator[tuple[str, str | T]]:
    for reference, named in given:
        if isinstance(reference, str):
            yield named.name, _absolute(reference)
        else:
            refuse_unsendable(f"{kind} {named.name}", named)
            yield named.name, named


def _absolute(reference: str) -> str:
    """A reference with an absolute file."""
    file, colon, name = reference.rpartition(":") if ".py:" in reference else (reference, "", "")
    return f"{Path(file).resolve()}{colon}{name}" if Path(file).is_file() else reference


@final
class FoundDefinitions:
    """Finds attacks and probes by their references, at their first use.

    Args:
        references: of the driver.
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._attacks: dict[str, NamedAttack] = {}
        self._probes: dict[str, NamedProbe] = {}

    def attack(self, name: str) -> NamedAttack | None:
        """Returns an attack; None for `none`.

        Raises:
            RobustnessError: it differs from the driver's, or lacks files here.
        """
        given = self._references.attacks.get(name)
        if given is None:
            return None
        if name not in self._attacks:
            found = given if isinstance(given, NamedAttack) else self._find_attack(name, given)
            self._compare(f"attack {name}", found.digest)
            self._attacks[name] = found
        return self._attacks[name]

    def probe(self, name: str) -> NamedProbe:
        """Returns a probe.

        Raises:
            RobustnessError: it differs from the driver's.
        """
        given = self._references.probes[name]
        if name not in self._probes:
            parameters = self._references.parameters.get(name)
            found = given if isinstance(given, NamedProbe) else find_probe(given, parameters)
            self._compare(f"probe {name}", found.digest)
            self._probes[name] = found
        return self._probes[name]

    def _compare(self, what: str, digest: str) -> None:
        if digest != self._references.digests[what]:
            raise UsageError(
                f"{what}: differs here from the one on the driver's machine; every machine must see the same files "
                "and have the same packages"
            )

    def _find_attack(self, name: str, reference: str) -> NamedAttack:
        if name not in self._references.ready:
            return resolve_or_postpone(reference, self._references.resources)
        try:
            return find_attack(reference, self._references.resources)
        except DataError as error:
            raise DataError(
                f"attack {name}: lacks files here that the driver's machine has; every machine must see the same "
                f"files and have the same packages: {error}"
            ) from None
