"""The schema of a suite file."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from robustness.definitions.model import Definition

ParameterValue = int | float | str | tuple[int | float | str, ...]


class SuiteDefinition(Definition):
    """The test sets to evaluate, and the attacks and probes to run on them."""

    summary: str
    testsets: tuple[str, ...]
    evaluated: tuple[str, ...] = ()
    """Further test sets, neither attacked nor probed unless named on the command line."""
    attacks: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    parameters: dict[str, dict[str, ParameterValue]] = Field(default_factory=dict)
    """By probe: replacements for its definition's number of examples and parameters."""
    limit: PositiveInt | None = None
    """Maximum of examples of each test set, drawn by the run's seed; --limit replaces it."""
    attacked: PositiveInt | None = None
    """Maximum of attacked examples: the first that both arms of a pair answer rightly. None: all."""
