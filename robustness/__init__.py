"""Adversarial robustness of PEFT checkpoints beside their fully fine-tuned partners.

Public names load on first use: `import robustness` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.api import report, run, train
    from robustness.engine.attack import Access, Answer, Attack, BudgetExhausted, Gradients, Losses, Scores, Search
    from robustness.engine.outcome import Outcome, Status
    from robustness.errors import RobustnessError
    from robustness.tasks.abilities import Ability
    from robustness.testsets.example import Example

__version__ = "0.1.0"

_HOMES = {
    "Ability": "robustness.tasks.abilities",
    "Access": "robustness.engine.attack",
    "Answer": "robustness.engine.attack",
    "Attack": "robustness.engine.attack",
    "BudgetExhausted": "robustness.engine.attack",
    "Example": "robustness.testsets.example",
    "Gradients": "robustness.engine.attack",
    "Losses": "robustness.engine.attack",
    "Outcome": "robustness.engine.outcome",
    "RobustnessError": "robustness.errors",
    "Scores": "robustness.engine.attack",
    "Search": "robustness.engine.attack",
    "Status": "robustness.engine.outcome",
    "report": "robustness.api",
    "run": "robustness.api",
    "train": "robustness.api",
}

__all__ = [
    "Ability",
    "Access",
    "Answer",
    "Attack",
    "BudgetExhausted",
    "Example",
    "Gradients",
    "Losses",
    "Outcome",
    "RobustnessError",
    "Scores",
    "Search",
    "Status",
    "report",
    "run",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'robustness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
