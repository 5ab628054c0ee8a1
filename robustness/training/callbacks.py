"""Callbacks of a trial: re-allocate ranks, keep the best epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback

TELL_SECONDS = 1.0
"""Interval of reports within an epoch."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A trial's trained weights at the end of one epoch."""

    epoch: int
    """Counted from 1."""
    score: float
    """On the selecting rows."""
    weights: Mapping[str, torch.Tensor]
    """The trained parameters by name, on the CPU."""


class EpochKeeper(TrainerCallback):  # type: ignore[misc]  # transformers is untyped for us
    """Stores scores, losses and trained weights of epochs; stops when the loss is not finite."""

    def __init__(
        self,
        report: Callable[[int, float], None],
        *,
        keep_all: bool,
        score: Callable[[Any], float] | None = None,
    ) -> None:
        self.scores: list[float] = []
        self.losses: list[float] = []
        self.failed = False
        self.snapshots: list[Snapshot] = []
        """Snapshots of every epoch, or only of the best so far."""
        self._report = report
        self._keep_all = keep_all
        self._score = score
        """Scores a model, if the trainer itself cannot."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:  # noqa: ARG002
        """Keeps the epoch's mean loss; ends the trial when it is not finite."""
        if "loss" not in logs:
            return
        self.losses.append(logs["loss"])
        if not math.isfinite(logs["loss"]):
            self.failed = True
            control.should_training_stop = True
        if self._score is not None:
            self._keep(0.0 if self.failed else self._score(given["model"]), given["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Keeps the epoch's score and, of the best or of all, its weights."""
        self._keep(given["metrics"]["eval_score"], given["model"])

    def _keep(self, score: float, model: Any) -> None:
        is_best = score > max(self.scores, default=-1.0)
        self.scores.append(score)
        if not self.failed and (self._keep_all or is_best):
            weights = {name: parameter.detach().cpu().clone() for name, parameter in trained(model)}
            snapshot = Snapshot(len(self.scores), score, weights)
            self.snapshots = [*self.snapshots, snapshot] if self._keep_all else [snapshot]
        self._report(len(self.scores), score)

    def best(self) -> Snapshot | None:
        """The snapshot of the highest score, the earliest among equals; None if the first epoch failed."""
        return max(self.snapshots, key=lambda snapshot: snapshot.score, default=None)


class StepTeller(TrainerCallback):  # type: ignore[misc]
    """Tells the share of a trial's steps that is done, at most once a second, and of the last step."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._told = -TELL_SECONDS

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Tells it unless it was told just before."""
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS or state.global_step >= state.max_steps:
            self._told = now
            self._tell(state.global_step / state.max_steps)


class RankAllocation(TrainerCallback):  # type: ignore[misc]
    """Re-allocates AdaLoRA's ranks after every optimiser step, while gradients exist (arXiv 2303.10512)."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Steps count from 0, as in the library's own example."""
        given["model"].base_model.update_and_allocate(state.global_step)


def trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that training changes, with their names."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def restore(model: Any, snapshot: Snapshot) -> None:
    """Restores a model to a snapshot of its trial."""
    for name, parameter in trained(model):
        if name in snapshot.weights:
            parameter.copy_(snapshot.weights[name])
    _match_rank_pattern(model)


def _match_rank_pattern(model: Any) -> None:
    """AdaLoRA saves the directions of its rank pattern: here exactly the nonzero directions of these weights."""
    for adapter, config in getattr(model, "peft_config", {}).items():
        if getattr(config, "rank_pattern", None) and hasattr(config, "init_r"):
            pattern = {
                name.replace("base_model.model.", "", 1): (parameter != 0).flatten().tolist()
                for name, parameter in model.named_parameters()
                if f"lora_E.{adapter}" in name
            }
            config.rank_pattern = copy.deepcopy(pattern)
