"""Choices of a training that studies, calls and commands name alike."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["equal", "paper"]
"""`equal` for all methods, or `paper`: each method as arXiv 2505.22355 trained it."""
Match = Literal["none", "clean"]
"""`clean` compares epochs whose clean accuracies are close."""
Grid = Literal["shipped", "wide", "one"]
"""Learning rates: `wide` tries two more for every method, one at either end; `one` the largest alone."""
Targets = Literal["method", "attention", "linear"]
"""Layers that LoRA and its kin adapt: as its file says, `attention` (query and value) or `linear` (all)."""
