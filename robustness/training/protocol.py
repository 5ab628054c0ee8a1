"""What is the same for every method, so that a pair differs in its adaptation alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from robustness.definitions.catalog import Entry
from robustness.errors import UsageError
from robustness.options import Grid, Match, Protocol, Targets
from robustness.training.adapters import has_targets
from robustness.training.methods import MethodDefinition, StudySettings

LONE_STEP = 4.0
"""Between the rates of a wide grid around a single rate."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The recipe that all methods share: AdamW, and a linear schedule with warm-up.

    Source: warm-up share and schedule of LoRA's RoBERTa runs (arXiv 2106.09685, table 9); weight decay and
    epochs of BERT (arXiv 1810.04805, appendices A.2 and A.3).
    """

    epochs: int = 3
    max_steps: int | None = None
    """Optimiser steps; takes the place of epochs."""
    batch_size: int = 16
    """Examples of one optimiser step."""
    accumulation: int = 1
    """Parts in which a batch is run, so that it fits the device."""
    checkpointing: bool = False
    """Activations are computed again for the gradients, so that they fit the device: a third more time."""
    targets: Targets = "method"
    """Layers that methods adapt which adapt linear ones: what each method's file says, `attention` (query and value)
    or `linear` (all of the repeated blocks)."""
    warmup_share: float = 0.06
    """Share of all steps over which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    max_tokens: int = 128
    """Longer inputs are cut, in training and when the development rows are scored; text tasks cut nothing."""
    bf16: bool = False
    """Matrix products in bfloat16; weights and optimiser stay in float32."""
    dev_limit: int | None = None
    """At most so many rows, evenly spaced, of the half that selects; None: 1,000, of text tasks 100."""
    report_limit: int | None = None
    """Likewise of the half that reports; None: as many as select, of text tasks twice as many."""
    protocol: Protocol = "equal"
    """`paper`: batch, rate, epochs, clipping and warm-up of each method are those of arXiv 2505.22355."""
    match: Match = "none"
    """`clean`: a pair's checkpoints are those of the epochs closest in clean accuracy."""

    grid: Grid = "shipped"
    """`wide`: every method tries one learning rate more beyond either end of its own; `one`: its largest alone."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "max_tokens", "max_steps", "dev_limit", "report_limit"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise UsageError(f"training settings: {name} is {count}; expected 1 or more")
        if self.batch_size % self.accumulation:
            raise UsageError(
                f"training settings: batch_size {self.batch_size} cannot be run in {self.accumulation} equal parts"
            )
        if not 0 <= self.warmup_share <= 1:
            raise UsageError(f"training settings: warmup_share is {self.warmup_share}; expected 0 to 1")
        for name in ("max_grad_norm", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"training settings: {name} is {getattr(self, name)}; expected 0 or more")
        for name, kind in (("protocol", Protocol), ("match", Match), ("grid", Grid), ("targets", Targets)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(f"--{name} {getattr(self, name)}: expected {' or '.join(get_args(kind))}")
        if self.protocol == "paper" and self.grid != "shipped":
            raise UsageError(
                f"--grid {self.grid}: --protocol paper trains at the study's own learning rates; leave one out"
            )
        if self.protocol == "paper" and self.targets != "method":
            raise UsageError(
                f"--targets {self.targets}: --protocol paper adapts the layers that the study adapted; leave one out"
            )

    def steps(self, rows: int) -> int:
        """Optimiser steps when `rows` training rows are used.

        >>> TrainingSettings(epochs=3, batch_size=16).steps(1601)
        303
        """
        return self.max_steps or self.epochs * math.ceil(rows / self.batch_size)

    def warmup_steps(self, rows: int) -> int:
        """Optimiser steps of warm-up when `rows` training rows are used.

        >>> TrainingSettings(epochs=3, batch_size=16, warmup_share=0.06).warmup_steps(1600)
        18
        """
        return math.ceil(self.warmup_share * self.steps(rows))


def under_protocol(
    method: Entry[MethodDefinition], task: str, settings: TrainingSettings
) -> tuple[Entry[MethodDefinition], TrainingSettings]:
    """Returns the method and the settings it is trained with: on the grid and layers asked for, or as the study did.

    Raises:
        UsageError: protocol `paper`, and the study's settings of this method on this task are not known.
    """
    if settings.protocol == "equal":
        return _adapted(method, settings), settings
    study = next((study for study in method.definition.study if study.task == task), None)
    if study is None:
        known = ", ".join(study.task for study in method.definition.study) or "no task"
        raise UsageError(
            f"--protocol paper: how arXiv 2505.22355 trained {method.name} on {task} is not known; for {method.name} "
            f"its settings are known on {known}; leave --protocol out, or write a method's file with [[study]]"
        )
    return _studied(method, study), replace(
        settings,
        epochs=study.epochs,
        batch_size=study.batch_size,
        max_grad_norm=study.max_grad_norm,
        warmup_share=study.warmup_share,
    )


def _adapted(method: Entry[MethodDefinition], settings: TrainingSettings) -> Entry[MethodDefinition]:
    rates = method.definition.learning_rates
    chosen = {"shipped": rates, "wide": widen(rates), "one": (max(rates),)}[settings.grid]
    adapter = method.definition.adapter
    if settings.targets != "method" and has_targets(adapter):
        adapter = adapter.model_copy(update={"target_modules": settings.targets})
    changed = {"learning_rates": chosen, "adapter": adapter}
    return Entry(method.name, method.path, method.definition.model_copy(update=changed))


def widen(rates: Sequence[float]) -> tuple[float, ...]:
    """Returns a grid of learning rates with one more beyond either end, as far off as those within lie apart.

    >>> widen((5e-4, 2e-3))
    (0.000125, 0.0005, 0.002, 0.008)
    """
    low, high = min(rates), max(rates)
    step = (high / low) ** (1 / (len(rates) - 1)) if high > low else LONE_STEP
    ends = (float(f"{rate:.2e}") for rate in (low / step, high * step))
    return tuple(sorted({*rates, *ends}))


def _studied(method: Entry[MethodDefinition], study: StudySettings) -> Entry[MethodDefinition]:
    changed = {"learning_rates": (study.learning_rate,), "adapter": study.adapter or method.definition.adapter}
    return Entry(method.name, method.path, method.definition.model_copy(update=changed))
