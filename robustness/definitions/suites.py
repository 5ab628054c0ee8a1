"""What a suite file may say."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from robustness.definitions.model import Definition

ParameterValue = int | float | str | tuple[int | float | str, ...]


class SuiteDefinition(Definition):
    """Which test sets are evaluated as they stand, and which attacks and probes run on them."""

    summary: str
    testsets: tuple[str, ...]
    evaluated: tuple[str, ...] = ()
    """Further test sets, which are not attacked and not probed; named on the command line they are."""
    attacks: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    parameters: dict[str, dict[str, ParameterValue]] = Field(default_factory=dict)
    """By probe: what replaces its definition's number of examples and parameters."""
    limit: PositiveInt | None = None
    """At most so many examples of each test set, drawn by the run's seed; the command line's --limit replaces it."""
    attacked: PositiveInt | None = None
    """At most so many of these are attacked: the first that both arms of a pair answer rightly. None: all."""
