"""Reports of workers to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from robustness.engine.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Started:
    """A worker is ready."""

    versions: Mapping[str, str]
    """Versions of its libraries."""
    where: str
    """Its process and machine, in words."""


@dataclass(frozen=True, slots=True)
class Found:
    """Outcomes of the current shard."""

    outcomes: tuple[Outcome, ...]
    truncated: frozenset[str]
    """Digests of newly truncated texts."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The current shard is done; the worker waits for the next."""

    doubts: tuple[str, ...]
    """Warnings about the worker's victims so far."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Stops the whole run: the message of a RobustnessError."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is gone, with its current work."""

    reason: str


Report: TypeAlias = Started | Found | Ended | Refused | Lost
