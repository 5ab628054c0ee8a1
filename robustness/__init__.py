"""Compares the adversarial robustness of two fine-tuned checkpoints, such as LoRA against full fine-tuning.

`train` makes pairs of checkpoints and `run` attacks both arms; `study` does both for a whole design. `load` reads a
run folder; `report` writes its tables and page again. `check` tests your own attack or task. Every error that a
caller can cause is a `RobustnessError`: it says where, what was expected, what was found and what to do.

Public names load on first use: `import robustness` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustness.api import check, load, report, run, study, train
    from robustness.engine.attack import Access, Answer, Attack, BudgetExhausted, Gradients, Losses, Scores, Search
    from robustness.engine.outcome import Outcome, Status
    from robustness.errors import RobustnessError
    from robustness.options import CheckpointPair, RunSettings, StudySettings, TrainSettings
    from robustness.reports.report import Report
    from robustness.reports.studies.study import StudyReport, load_study
    from robustness.studies.run import StudyResult
    from robustness.tasks.abilities import Ability
    from robustness.testsets.example import Example
    from robustness.workers.execution import Execution

__version__ = "0.2.0.dev0"

_HOMES = {
    "Ability": "robustness.tasks.abilities",
    "Access": "robustness.engine.attack",
    "Answer": "robustness.engine.attack",
    "CheckpointPair": "robustness.options",
    "Attack": "robustness.engine.attack",
    "BudgetExhausted": "robustness.engine.attack",
    "Example": "robustness.testsets.example",
    "Execution": "robustness.workers.execution",
    "Gradients": "robustness.engine.attack",
    "Losses": "robustness.engine.attack",
    "Outcome": "robustness.engine.outcome",
    "Report": "robustness.reports.report",
    "RobustnessError": "robustness.errors",
    "RunSettings": "robustness.options",
    "Scores": "robustness.engine.attack",
    "Search": "robustness.engine.attack",
    "Status": "robustness.engine.outcome",
    "StudyReport": "robustness.reports.studies.study",
    "StudyResult": "robustness.studies.run",
    "StudySettings": "robustness.options",
    "TrainSettings": "robustness.options",
    "check": "robustness.api",
    "load": "robustness.api",
    "load_study": "robustness.reports.studies.study",
    "report": "robustness.api",
    "run": "robustness.api",
    "study": "robustness.api",
    "train": "robustness.api",
}

__all__ = [
    "Ability",
    "Access",
    "Answer",
    "Attack",
    "BudgetExhausted",
    "CheckpointPair",
    "Example",
    "Execution",
    "Gradients",
    "Losses",
    "Outcome",
    "Report",
    "RobustnessError",
    "RunSettings",
    "Scores",
    "Search",
    "Status",
    "StudyReport",
    "StudyResult",
    "StudySettings",
    "TrainSettings",
    "check",
    "load",
    "load_study",
    "report",
    "run",
    "study",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'robustness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
