"""The common protocol of all methods, so that the arms of a pair differ only in adaptation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, get_args

from robustness.definitions.catalog import Entry
from robustness.definitions.training_choices import Grid, Match, Protocol, Targets, TrainingChoices
from robustness.errors import UsageError
from robustness.training.adapters import has_targets
from robustness.training.defences import Defence, FreeLb, read_adversarial
from robustness.training.methods import MethodDefinition, StudySettings

LONE_STEP = 4.0
"""Factor between the rates of a wide grid around a single rate."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The common recipe of all methods: AdamW, and a linear schedule with warm-up.

    Source: warm-up share and schedule of LoRA's RoBERTa runs (arXiv 2106.09685, table 9); weight decay and
    epochs of BERT (arXiv 1810.04805, appendices A.2 and A.3).
    """

    epochs: int = 3
    max_steps: int | None = None
    """Optimiser steps, instead of epochs."""
    batch_size: int = 16
    """Examples per optimiser step."""
    accumulation: int = 1
    """Number of parts of a batch, so that each fits the device."""
    checkpointing: bool = False
    """Recomputes activations for the gradients, so that they fit the device; takes a third more time."""
    targets: Targets = "method"
    """Layers for methods that adapt linear layers: by each method's file, `attention` (query and value) or `linear`
    (all of the repeated blocks)."""
    warmup_share: float = 0.06
    """Share of all steps over which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    max_tokens: int = 128
    """Longer inputs are cut, in training and in scoring of development rows; text tasks cut nothing."""
    bf16: bool = False
    """Matrix products in bfloat16; weights and optimiser stay in float32."""
    dev_limit: int | None = None
    """Maximum of evenly spaced rows of the selecting half; None: 1,000, for text tasks 100."""
    report_limit: int | None = None
    """The same for the reporting half; None: as many as for selecting, for text tasks twice as many."""
    protocol: Protocol = "equal"
    """`paper`: batch, rate, epochs, clipping and warm-up of each method as in arXiv 2505.22355."""
    match: Match = "none"
    """`clean`: a pair takes the epochs closest in clean accuracy."""

    adversarial: FreeLb | None = None
    """How each batch is perturbed; None: not at all. Of a call: how those of methods with `+freelb` are."""
    grid: Grid = "shipped"
    """`wide`: every method tries one more learning rate beyond either end of its grid; `one`: only its largest."""

    @classmethod
    def of(cls, chosen: TrainingChoices, *, match: Match = "none", adversarial: str | None = None) -> Self:
        """Returns the recipe with what a call or a study has chosen of it.

        Args:
            chosen: what both can choose.
            match: as the field.
            adversarial: as `--adversarial` takes it; None: FreeLB's defaults.
        """
        made = cls(
            max_steps=chosen.steps,
            accumulation=chosen.accumulation,
            checkpointing=chosen.checkpointing,
            targets=chosen.targets,
            bf16=chosen.bf16,
            dev_limit=chosen.dev_limit,
            report_limit=chosen.report_limit,
            protocol=chosen.protocol,
            match=match,
            grid=chosen.grid,
            adversarial=None if adversarial is None else read_adversarial(adversarial),
        )
        return made if chosen.epochs is None else replace(made, epochs=chosen.epochs)

    def under(self, defence: Defence) -> Self:
        """Returns the settings of a method with this defence: FreeLB's own where it is part of it, else none.

        >>> TrainingSettings().under(Defence(is_adversarial=True)).adversarial.steps
        3
        """
        return replace(self, adversarial=(self.adversarial or FreeLb()) if defence.is_adversarial else None)

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

    @property
    def passes_per_batch(self) -> int:
        """Times that a batch or a part of it runs forward and backward.

        >>> TrainingSettings(accumulation=2, adversarial=FreeLb(steps=3)).passes_per_batch
        6
        """
        return self.accumulation * (1 if self.adversarial is None else self.adversarial.steps)

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
    """Returns the method and its training settings: the requested grid and layers, or the study's settings.

    Raises:
        UsageError: with protocol `paper`, the study's settings for this method and task are not known.
    """
    if settings.protocol == "equal":
        return _adapted(method, settings), settings
    study = next((study for study in method.definition.study if study.task == task), None)
    if study is None:
        known = ", ".join(study.task for study in method.definition.study) or "no task"
        raise UsageError(
            f"--protocol paper: the settings of arXiv 2505.22355 for {method.name} on {task} are not known; they "
            f"are known on {known}; leave --protocol out, or write a method's file with [[study]]"
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
    """Returns a grid of learning rates with one more beyond either end, at the grid's own ratio.

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
