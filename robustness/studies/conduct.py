"""How a study is carried out; results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robustness.progress import ProgressCallback
from robustness.workers.execution import Execution

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reporting:
    """What writes tables and pages, which a study itself does not import."""

    run: Callable[[Path], object]
    """Of one run folder."""
    study: Callable[[Path], Sequence[str]]
    """Of the study's folder; returns its answers as sentences."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """The device, the workers, and what hears of progress."""

    device: str = "auto"
    execution: Execution = field(default_factory=Execution)
    say: Say = lambda _line: None
    on_progress: ProgressCallback | None = None
