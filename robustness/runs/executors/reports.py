"""What workers tell the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from robustness.engine.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Started:
    """A worker is ready."""

    versions: Mapping[str, str]
    """Of its libraries."""
    where: str
    """Its process and machine, in words."""


@dataclass(frozen=True, slots=True)
class Found:
    """Outcomes of the shard in hand."""

    outcomes: tuple[Outcome, ...]
    truncated: frozenset[str]
    """Digests of texts longer than the model takes, but for those told before."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The shard in hand is done; the worker waits for the next."""

    doubts: tuple[str, ...]
    """What is doubtful about the worker's victims so far."""


@dataclass(frozen=True, slots=True)
class Refused:
    """What stops the whole run: the message of a RobustnessError."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is gone, and with it what it had in hand."""

    reason: str


Report: TypeAlias = Started | Found | Ended | Refused | Lost
