"""What is the same for every method, so that a pair differs in its adaptation alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robustness.errors import UsageError


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The recipe that all methods share: AdamW, and a linear schedule with warm-up.

    Source: warm-up share and schedule of LoRA's RoBERTa runs (arXiv 2106.09685, table 9); weight decay and
    epochs of BERT (arXiv 1810.04805, appendices A.2 and A.3).
    """

    epochs: int = 3
    batch_size: int = 16
    warmup_share: float = 0.06
    """Share of all steps over which the learning rate rises from zero."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    max_tokens: int = 128
    """Longer inputs are cut, in training and when the development rows are scored."""
    dev_limit: int = 1000
    """At most so many clean development rows, evenly spaced, choose epoch and learning rate."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_tokens", "dev_limit"):
            if getattr(self, name) < 1:
                raise UsageError(f"training settings: {name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.warmup_share <= 1:
            raise UsageError(f"training settings: warmup_share is {self.warmup_share}; expected 0 to 1")
        for name in ("max_grad_norm", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"training settings: {name} is {getattr(self, name)}; expected 0 or more")

    def warmup_steps(self, rows: int) -> int:
        """Optimiser steps of warm-up when `rows` training rows are used.

        >>> TrainingSettings(epochs=3, batch_size=16, warmup_share=0.06).warmup_steps(1600)
        18
        """
        return math.ceil(self.warmup_share * self.epochs * math.ceil(rows / self.batch_size))
