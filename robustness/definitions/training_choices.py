"""Choices of a training that studies, calls and commands name alike."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, StrictBool, StrictInt

Protocol = Literal["equal", "paper"]
"""`equal` for all methods, or `paper`: each method as arXiv 2505.22355 trained it."""
Match = Literal["none", "clean"]
"""`clean` compares epochs whose clean accuracies are close."""
Grid = Literal["shipped", "wide", "one"]
"""Learning rates: `wide` tries two more for every method, one at either end; `one` the largest alone."""
Targets = Literal["method", "attention", "linear"]
"""Layers that LoRA and its kin adapt: as its file says, `attention` (query and value) or `linear` (all)."""


class TrainingChoices(BaseModel):
    """How every checkpoint of a call or a study is trained."""

    epochs: StrictInt | None = None
    """Passes over the rows; not given: 3."""
    steps: StrictInt | None = None
    """Optimiser steps, in place of epochs."""
    grid: Grid = "shipped"
    """Learning rates: `wide` tries two more for every method, one at either end; `one` the largest alone."""
    targets: Targets = "method"
    """Layers that LoRA and its kin adapt: as its file says, `attention` (query and value) or `linear` (all)."""
    dev_limit: StrictInt | None = None
    """Maximum of development rows that select a learning rate; not given: 1,000, of text tasks 100."""
    report_limit: StrictInt | None = None
    """Maximum of development rows that report its score; not given: 1,000, of text tasks 200."""
    accumulation: StrictInt = 1
    """Parts in which a batch of 16 is run."""
    checkpointing: StrictBool = False
    """Computes activations again for the gradients: less memory, a third more time."""
    bf16: StrictBool = False
    """Matrix products in bfloat16, where that is faster; weights and optimiser stay in float32."""
    protocol: Protocol = "equal"
    """`equal` for all methods, or `paper`: each method as arXiv 2505.22355 trained it."""
