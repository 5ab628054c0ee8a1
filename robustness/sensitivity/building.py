"""Builds a probe by name, from data, or from a user's class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from robustness.definitions.catalog import PROBES, Entry
from robustness.definitions.probes import ProbeDefinition
from robustness.definitions.reading import validate_content
from robustness.definitions.suites import ParameterValue
from robustness.errors import DefinitionError, ProbeError
from robustness.recipes.custom import import_named, source_digest
from robustness.sensitivity.measurement import Space
from robustness.sensitivity.parts import PROBE_KINDS
from robustness.sensitivity.probe import NamedProbe, Probe

PLUGINS = "robustness.probes"
"""The group of entry points in which installed packages offer probes."""


def find_probe(reference: str, parameters: Mapping[str, ParameterValue] | None = None) -> NamedProbe:
    """Returns the probe of a shipped name, a definition file, `file.py:Name` or a plug-in's name.

    Args:
        reference: see above; a plug-in is an entry point in the group `robustness.probes` that leads to a class.
        parameters: replace values of the definition: `examples` and the keys of [measure].

    Raises:
        DefinitionError: no such probe, a malformed file, or a parameter that it does not have.
        UsageError: no such Python file or class.
        ProbeError: the class does not follow the protocol.
    """
    if ".py:" in reference or reference.endswith(".py"):
        made, name, digest = import_named(reference, "--probe")
        return name_probe(made, name=name, digest=digest)
    if reference not in PROBES.names():
        for plugin in entry_points(group=PLUGINS, name=reference):
            return name_probe(plugin.load(), name=reference)
    entry = PROBES.find(reference)
    definition, where = _with_parameters(entry, parameters or {})
    measure = PROBE_KINDS.check(definition.measure, where, ["measure"])
    return NamedProbe(entry.name, measure.behaviour_digest(), PROBE_KINDS.build(measure), definition.examples)


def name_probe(made: object, *, name: str = "", digest: str = "") -> NamedProbe:
    """Returns a named probe for a class (called without arguments) or an instance that follows the protocol.

    Raises:
        ProbeError: it has no `space`, no method measure(self, subject), or a shipped probe's name.
    """
    if isinstance(made, NamedProbe):
        return made
    kind = made if isinstance(made, type) else type(made)
    name = name or kind.__qualname__
    if name in PROBES.names():
        raise ProbeError(f"probe {name}: the name is taken by a shipped probe; rename the class")
    try:
        probe: Any = made() if isinstance(made, type) else made
    except TypeError as error:
        raise ProbeError(f"probe {name}: could not be made without arguments: {error}") from None
    if getattr(probe, "space", None) not in set(Space):
        raise ProbeError(f"probe {name}: `space` is missing; set space = Space.INPUT (or another) in the class")
    if not isinstance(probe, Probe):
        raise ProbeError(f"probe {name}: expected a method measure(self, subject) that yields Readings")
    return NamedProbe(name, digest or source_digest(kind), probe)


def _with_parameters(
    entry: Entry[ProbeDefinition], parameters: Mapping[str, ParameterValue]
) -> tuple[ProbeDefinition, str]:
    """The definition with a suite's parameters, and the name for errors in it."""
    if not parameters:
        return entry.definition, str(entry.path)
    content: dict[str, Any] = json.loads(entry.definition.model_dump_json(exclude_none=True))
    for key, value in parameters.items():
        if key == "kind":
            raise DefinitionError(f"probe {entry.name}: parameter 'kind' cannot be replaced; name another probe")
        (content if key == "examples" else content["measure"])[key] = value
    where = f"probe {entry.name}"
    return validate_content(content, ProbeDefinition, where), where
