"""Reports of workers to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """A worker is ready."""

    versions: Mapping[str, str]
    """Versions of its libraries."""
    where: str
    """Its process and machine, in words."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message about the current job."""

    message: object


@dataclass(frozen=True, slots=True)
class Ended:
    """The current job is done; the worker waits for the next."""

    doubts: tuple[str, ...]
    """Warnings of the worker's bench so far."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Stops all work: the message of a RobustnessError."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is gone, with its current job."""

    reason: str


Report: TypeAlias = Started | Told | Ended | Refused | Lost
