"""One checkpoint to train, as data that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustness.definitions.catalog import Entry
from robustness.training.adaptation import Base
from robustness.training.adapters import has_targets
from robustness.training.methods import MethodDefinition
from robustness.training.protocol import TrainingSettings


@dataclass(frozen=True, slots=True)
class RowSource:
    """Which rows a job is trained and scored on; equal sources give equal rows."""

    testset: str
    data: Path | None
    limit: int | None
    dev_limit: int | None
    report_limit: int | None
    augmented: Path | None


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One checkpoint to train."""

    testset: str
    """A clean test set with a training split: its name, or the path of its definition."""
    base: Base
    method: Entry[MethodDefinition]
    """As in its file; grid, layers and protocol of the settings are applied later."""
    seed: int
    folder: Path
    """Of the checkpoint; it exists only complete."""
    settings: TrainingSettings
    data: Path | None = None
    """The folder with official files; None for packaged files and the hub."""
    limit: int | None = None
    """Maximum of training rows."""
    augmented: Path | None = None
    """A file of these rows changed by a recipe, which are trained on as well; None: there are none."""

    @property
    def source(self) -> RowSource:
        """Its rows."""
        limits = self.settings.dev_limit, self.settings.report_limit
        return RowSource(self.testset, self.data, self.limit, *limits, self.augmented)


def checkpoint_name(testset: str, method: Entry[MethodDefinition], settings: TrainingSettings, seed: int) -> str:
    """Returns the name of a checkpoint's folder, which is its name in tables."""
    variant = "" if settings.protocol == "equal" else f"-{settings.protocol}"
    if settings.targets != "method" and has_targets(method.definition.adapter):
        variant += f"-{settings.targets}"
    return f"{testset}-{method.name.replace('+', '-')}{variant}-seed{seed}"
