"""Quasi-Newton ascent in balls around zero, for each row of a batch separately."""

from __future__ import annotations

from typing import final

import torch

from robustness.recipes.embedding.balls import Norm, project, rescale, sizes, unit_direction

HISTORY = 12
"""Pairs of steps and gradient changes that represent the curvature."""
FIRST_SHARE = 0.3
"""Length of the first step, in radii."""
LONGER, SHORTER, SHORTEST = 1.5, 0.4, 2e-3
"""Factors of the longest step after a rise and after no rise, and its minimum in radii."""
LEAST_BEND = 1e-10
"""A step along which the slope changes less says nothing about the curvature."""
ON_SPHERE = 0.999
PROGRESS = 1e-3
"""A row ends when its value rises by less over the last `patience` steps."""


@final
class BallAscent:
    """L-BFGS (Nocedal 1980) on smooth functions of (rows, tokens, dim), one for each row, in l2 balls around zero.

    After a step that finds less, the next step starts from the best point and is shorter. On the sphere only the
    tangential part of an outward slope counts. A row's result depends on no other row.
    """

    def __init__(self, start: torch.Tensor, limits: torch.Tensor, patience: int) -> None:
        self.points = start
        """The points of the next evaluation."""
        self.best = torch.full_like(limits, -torch.inf)
        self.best_points = start
        self._limits, self._patience = limits, patience
        self._slopes = torch.zeros_like(start)
        self._share = torch.full_like(limits, FIRST_SHARE)
        self._moves: list[torch.Tensor] = []
        self._bends: list[torch.Tensor] = []
        self._since, self._mark = torch.zeros_like(limits), self.best

    def open_rows(self) -> torch.Tensor:
        """Rows that still rise, as int64 indices."""
        return (self._since < self._patience).nonzero().flatten()

    def advance(
        self, rows: torch.Tensor, values: torch.Tensor, slopes: torch.Tensor, at: torch.Tensor | None = None
    ) -> None:
        """Takes the values and gradients of some rows at their points, and computes the next points.

        Args:
            rows: int64 indices.
            values: (rows,); not finite at an invalid point.
            slopes: (rows, tokens, dim).
            at: (batch, tokens, dim), the points evaluated; None: `points`.
        """
        self.points = self.points if at is None else at
        value = torch.full_like(self.best, -torch.inf).index_copy(0, rows, values)
        slope = torch.zeros_like(self.points).index_copy(0, rows, slopes)
        uphill = self._along_sphere(torch.where(_wide(value.isfinite()), slope, 0.0))
        rose = value > self.best
        if self.best.isfinite().any():
            self._remember(uphill)
            self._share = (self._share * torch.where(rose, LONGER, SHORTER)).clamp(SHORTEST, 1.0)
        self.best = torch.where(rose, value, self.best)
        self.best_points = torch.where(_wide(rose), self.points, self.best_points)
        self._slopes = torch.where(_wide(rose), uphill, self._slopes)
        self._since = torch.where(self.best > self._mark + PROGRESS, 0.0, self._since + 1)
        self._mark = torch.where(self._since == 0, self.best, self._mark)
        self.points = project(self.best_points + self._step(), self._limits, Norm.L2)

    def _along_sphere(self, slope: torch.Tensor) -> torch.Tensor:
        outwards = unit_direction(self.points)
        along = _inner(slope, outwards)
        leaves = (sizes(self.points, Norm.L2) >= ON_SPHERE * self._limits) & (along > 0)
        return torch.where(_wide(leaves), slope - _wide(along) * outwards, slope)

    def _remember(self, uphill: torch.Tensor) -> None:
        move, bend = self.points - self.best_points, self._slopes - uphill
        counts = _wide(_inner(move, bend) > LEAST_BEND)
        self._moves = [*self._moves, torch.where(counts, move, 0.0)][-HISTORY:]
        self._bends = [*self._bends, torch.where(counts, bend, 0.0)][-HISTORY:]

    def _step(self) -> torch.Tensor:
        """The quasi-Newton step from the best points, no longer than allowed; along the slope if it leads down."""
        step, pairs = self._slopes, list(zip(self._moves, self._bends, strict=True))
        shares: list[tuple[torch.Tensor, torch.Tensor]] = []
        for move, bend in reversed(pairs):
            curved = _inner(move, bend)
            weight = torch.where(curved > 0, 1 / curved.clamp_min(1e-30), 0.0)
            share = weight * _inner(move, step)
            step = step - _wide(share) * bend
            shares.append((share, weight))
        if pairs:
            move, bend = pairs[-1]
            square = _inner(bend, bend)
            step = step * _wide(torch.where(square > 0, _inner(move, bend) / square.clamp_min(1e-30), 1.0))
        for (move, bend), (share, weight) in zip(pairs, reversed(shares), strict=True):
            step = step + _wide(share - weight * _inner(bend, step)) * move
        step = torch.where(_wide(_inner(step, self._slopes) > 0), step, self._slopes)
        longest = self._limits * self._share
        is_long = (sizes(step, Norm.L2) > longest) if pairs else torch.ones_like(longest).bool()
        return torch.where(_wide(is_long), rescale(step, longest), step)


def _inner(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left * right).flatten(1).sum(dim=1)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None]
