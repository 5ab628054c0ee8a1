"""Attacks in a ball of embeddings: one step, many steps, steps that set their own size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, final

import torch

from robustness.recipes.embedding.balls import Norm, project, random_in_ball, steepest
from robustness.recipes.embedding.trial import EmbeddingResult, Loss, Slope, Trial
from robustness.victims.heads.embedded_batch import EmbeddedBatch

MOMENTUM = 0.75
"""Share of the new step in APGD's update; the rest continues the last one."""
RISE_SHARE = 0.75
"""APGD halves its step where a smaller share of the steps since the last checkpoint raised the loss."""


class BallAttack(Protocol):
    """Looks for a wrong answer within a radius."""

    @property
    def norm(self) -> Norm:
        """Of the ball."""
        ...

    def perturb(
        self, batch: EmbeddedBatch, radius: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """Attacks the rows that are right, each within its radius.

        Args:
            batch: what to attack.
            radius: (batch,), float32, in embedding units.
            generators: one for each example, on the CPU.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class Fgsm:
    """One step of the whole radius along the steepest direction: delta = radius * steepest(gradient).

    The fast gradient sign method (arXiv 1412.6572); exact for a linear model of two labels.
    """

    norm: Norm
    loss: Loss = Loss.MARGIN

    def perturb(
        self, batch: EmbeddedBatch, radius: torch.Tensor, generators: Sequence[torch.Generator] = ()
    ) -> EmbeddingResult:
        """See BallAttack; draws nothing."""
        del generators
        trial = Trial(batch, self.loss)
        rows = trial.open_rows()
        if len(rows):
            slope = trial.slope(rows, trial.delta[rows])
            delta = steepest(slope.gradient, self.norm) * radius[rows, None, None]
            trial.propose(rows, delta, trial.wrong(rows, delta, trial.fooled(rows, delta)))
        return trial.result()


@final
@dataclass(frozen=True, slots=True)
class Pgd:
    """Steepest steps of constant size, each followed by projection onto the ball (arXiv 1706.06083).

    An example leaves the batch at its first success.
    """

    norm: Norm
    steps: int = 20
    step_size: float | None = None
    """In radii; None: 2.5 / steps, which can cross the ball from any start."""
    restarts: int = 1
    random_start: bool = True
    loss: Loss = Loss.MARGIN

    def perturb(
        self, batch: EmbeddedBatch, radius: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """See BallAttack."""
        trial = Trial(batch, self.loss)
        for _ in range(self.restarts):
            rows = trial.open_rows()
            start = _start(batch, rows, radius, self.norm, generators if self.random_start else None)
            self._climb(trial, rows, start, radius)
        return trial.result()

    def perturb_from(self, batch: EmbeddedBatch, radius: torch.Tensor, start: torch.Tensor) -> EmbeddingResult:
        """Attacks rows with right answers from given points of their balls, (batch, tokens, dim); draws nothing."""
        trial = Trial(batch, self.loss)
        rows = trial.open_rows()
        self._climb(trial, rows, start[rows], radius)
        return trial.result()

    def _climb(self, trial: Trial, rows: torch.Tensor, delta: torch.Tensor, radius: torch.Tensor) -> None:
        size = (2.5 / self.steps if self.step_size is None else self.step_size) * radius
        for _ in range(self.steps):
            if not len(rows):
                return
            slope = trial.slope(rows, delta)
            gradient, fooled = slope.gradient, trial.wrong(rows, delta, slope.fooled)
            if fooled.any():
                going = ~fooled
                trial.propose(rows[~going], delta[~going], fooled[~going])
                rows, delta, gradient = rows[going], delta[going], gradient[going]
            step = steepest(gradient, self.norm) * size[rows, None, None]
            delta = project(delta + step, radius[rows], self.norm)
        trial.propose(rows, delta, trial.wrong(rows, delta, trial.fooled(rows, delta)))


@dataclass(slots=True)
class _Climb:
    """APGD's state; all fields have one row for each example that is still attacked."""

    rows: torch.Tensor
    radius: torch.Tensor
    delta: torch.Tensor
    previous: torch.Tensor
    size: torch.Tensor
    """Step size, in embedding units."""
    loss: torch.Tensor
    best_loss: torch.Tensor
    best_delta: torch.Tensor
    best_gradient: torch.Tensor
    rises: torch.Tensor
    """Steps since the last checkpoint that raised the loss."""
    marked_loss: torch.Tensor
    """The best loss at the last checkpoint."""
    halved: torch.Tensor
    """Whether the last checkpoint halved the step."""

    def keep(self, mask: torch.Tensor) -> _Climb:
        return _Climb(*(getattr(self, field.name)[mask] for field in fields(self)))

    def book(self, slope: Slope) -> None:
        """Takes the slope at delta."""
        self.rises += (slope.losses > self.loss).long()
        self.loss = slope.losses
        better = slope.losses > self.best_loss
        self.best_loss = torch.where(better, slope.losses, self.best_loss)
        self.best_delta = torch.where(better[:, None, None], self.delta, self.best_delta)
        self.best_gradient = torch.where(better[:, None, None], slope.gradient, self.best_gradient)

    def check(self, span: int, gradient: torch.Tensor) -> torch.Tensor:
        """A checkpoint, `span` steps after the last: halves steps that do not help and restarts from the best point.

        Returns the gradient at delta.
        """
        stuck = ~self.halved & (self.marked_loss >= self.best_loss)
        halve = (self.rises < RISE_SHARE * span) | stuck
        self.size = torch.where(halve, self.size / 2, self.size)
        self.delta = torch.where(halve[:, None, None], self.best_delta, self.delta)
        self.loss = torch.where(halve, self.best_loss, self.loss)
        self.rises = torch.zeros_like(self.rises)
        self.marked_loss = self.best_loss
        self.halved = halve
        return torch.where(halve[:, None, None], self.best_gradient, gradient)

    def step(self, gradient: torch.Tensor, norm: Norm, momentum: float) -> None:
        target = project(self.delta + steepest(gradient, norm) * self.size[:, None, None], self.radius, norm)
        moved = self.delta + momentum * (target - self.delta) + (1 - momentum) * (self.delta - self.previous)
        self.previous, self.delta = self.delta, project(moved, self.radius, norm)


@final
@dataclass(frozen=True, slots=True)
class Apgd:
    """Projected steps with momentum that start at twice the radius and halve at checkpoints (arXiv 2003.01690).

    z = P(x_k + size * steepest(gradient)); x_{k+1} = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})). The step halves,
    restarting from the best point, in two cases. Under three quarters of the steps since the last checkpoint raised
    the loss, or neither best loss nor step has changed since. An example leaves the batch at its first success.
    """

    norm: Norm
    steps: int = 100
    restarts: int = 1
    loss: Loss = Loss.MARGIN

    def perturb(
        self, batch: EmbeddedBatch, radius: torch.Tensor, generators: Sequence[torch.Generator]
    ) -> EmbeddingResult:
        """See BallAttack.

        Raises:
            UsageError: the dlr loss with fewer than three labels.
        """
        trial = Trial(batch, self.loss)
        for _ in range(self.restarts):
            rows = trial.open_rows()
            start = _start(batch, rows, radius, self.norm, generators)
            self._climb(trial, rows, start, radius)
        return trial.result()

    def _climb(self, trial: Trial, rows: torch.Tensor, delta: torch.Tensor, radius: torch.Tensor) -> None:
        marks = checkpoints(self.steps)
        last_mark = 0
        state = _begin(rows, delta, radius[rows])
        for number in range(self.steps):
            if not len(state.rows):
                return
            slope = trial.slope(state.rows, state.delta)
            state.book(slope)
            fooled = trial.wrong(state.rows, state.delta, slope.fooled)
            point = torch.where(fooled[:, None, None], state.delta, state.best_delta)
            trial.propose(state.rows, point, fooled)
            going = ~fooled
            state, gradient = state.keep(going), slope.gradient[going]
            if number == 0:
                state.rises, state.marked_loss = torch.zeros_like(state.rises), state.best_loss
            if number in marks:
                gradient = state.check(number - last_mark, gradient)
                last_mark = number
            state.step(gradient, self.norm, 1.0 if number == 0 else MOMENTUM)
        fooled = trial.wrong(state.rows, state.delta, trial.fooled(state.rows, state.delta))
        trial.propose(state.rows[fooled], state.delta[fooled], fooled[fooled])


def checkpoints(steps: int) -> list[int]:
    """Returns the steps at which APGD may halve: ceil(p_j * steps) with p_1 = 0.22 and shrinking gaps.

    p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    marks: list[int] = []
    last, share = 0, 22  # in hundredths: sums of binary fractions would round wrongly
    while share < 100:
        marks.append(math.ceil(share * steps / 100))
        last, share = share, share + max(share - last - 3, 6)
    return [mark for mark in dict.fromkeys(marks) if 0 < mark < steps]


def _begin(rows: torch.Tensor, delta: torch.Tensor, radius: torch.Tensor) -> _Climb:
    lowest = torch.full_like(radius, -torch.inf)
    return _Climb(
        rows=rows,
        radius=radius,
        delta=delta,
        previous=delta,
        size=2 * radius,
        loss=lowest,
        best_loss=lowest,
        best_delta=delta,
        best_gradient=torch.zeros_like(delta),
        rises=torch.zeros_like(rows),
        marked_loss=lowest,
        halved=torch.zeros_like(rows, dtype=torch.bool),
    )


def _start(
    batch: EmbeddedBatch,
    rows: torch.Tensor,
    radius: torch.Tensor,
    norm: Norm,
    generators: Sequence[torch.Generator] | None,
) -> torch.Tensor:
    """A random point of each row's ball, or its centre."""
    if generators is None:
        return torch.zeros_like(batch.embeddings[rows])
    own = [generators[row] for row in rows.tolist()]
    return random_in_ball(batch.content[rows], batch.embeddings.shape[2], radius[rows], norm, own)
