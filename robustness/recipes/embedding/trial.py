"""One attack on one batch of embeddings: evaluates points, keeps the best, counts each example's costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import final

import torch
import torch.nn.functional as F

from robustness.errors import UsageError
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

COSTS = ("queries", "forwards", "backwards", "zero_gradients")
"""Fields of a result that add up over the searches of an example."""


class Loss(StrEnum):
    """The loss that an attack increases."""

    MARGIN = "margin"
    """max over c != y of z_c, minus z_y: does not vanish where the model is confident."""
    CROSS_ENTROPY = "cross-entropy"
    DLR = "dlr"
    """The margin over z_(1) - z_(3), the first and third largest logits (arXiv 2003.01690): needs three labels."""


def losses(logits: torch.Tensor, labels: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Returns the loss of each row, shape (batch,).

    Raises:
        UsageError: dlr with fewer than three labels.
    """
    if loss is Loss.CROSS_ENTROPY:
        return F.cross_entropy(logits, labels, reduction="none")
    if loss is Loss.MARGIN:
        return -margins(logits, labels)
    if logits.shape[1] < 3:
        raise UsageError(f"loss dlr: needs at least 3 labels, the task has {logits.shape[1]}; use loss margin")
    ordered = logits.sort(dim=1, descending=True).values
    return -margins(logits, labels) / (ordered[:, 0] - ordered[:, 2]).clamp_min(1e-12)


@final
@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """An attack's proposals and costs for a batch; all fields but delta have shape (batch,)."""

    delta: torch.Tensor
    """Shape (batch, tokens, dim), float32, zero outside the content: the perturbation found, or the last one
    tried."""
    found: torch.Tensor
    """Whether the attack believes that delta changes the answer; a judge decides."""
    skipped: torch.Tensor
    """Whether the answer was wrong before the attack; such a row is not attacked and its delta is zero."""
    queries: torch.Tensor
    """Points asked about, the clean one not included."""
    forwards: torch.Tensor
    backwards: torch.Tensor
    zero_gradients: torch.Tensor
    """Number of points where the gradient over the content was zero or not finite."""
    unit: float
    """Median token norm, in the units of delta."""

    @property
    def zero_gradient(self) -> torch.Tensor:
        """Whether any gradient vanished: such an example may seem robust by mistake."""
        return self.zero_gradients > 0

    def distance(self, norm: Norm) -> torch.Tensor:
        """Upper bound of the smallest norm that changes the answer, in embedding units, shape (batch,).

        The norm of delta where found, 0 where the answer was already wrong, infinite elsewhere.
        """
        reached = torch.where(self.found, sizes(self.delta, norm), torch.inf)
        return torch.where(self.skipped, 0.0, reached)

    def relative_distance(self, norm: Norm) -> torch.Tensor:
        """The distance in median token norms, shape (batch,)."""
        return self.distance(norm) / self.unit

    def with_costs_of(self, other: EmbeddingResult, rows: torch.Tensor) -> EmbeddingResult:
        """Returns this result with the costs of another search added.

        Args:
            other: a result of those rows alone.
            rows: int64 indices into this batch.
        """
        costs = {name: getattr(self, name).index_add(0, rows, getattr(other, name)) for name in COSTS}
        return replace(self, **costs)


@dataclass(frozen=True, slots=True)
class Slope:
    """The loss around some points."""

    losses: torch.Tensor
    """(rows,)."""
    margins: torch.Tensor
    """(rows,)."""
    gradient: torch.Tensor
    """The loss's gradient, (rows, tokens, dim), zero outside the content."""

    @property
    def fooled(self) -> torch.Tensor:
        """Whether each answer is wrong; a tie is not wrong."""
        return self.margins < 0


@final
class Trial:
    """Evaluates points for an attack. `rows` are int64 indices into the batch; points hold those rows alone."""

    def __init__(self, batch: EmbeddedBatch, loss: Loss) -> None:
        self.batch = batch
        self.loss = loss
        self.delta = torch.zeros_like(batch.embeddings)
        count = torch.zeros_like(batch.labels)
        self._found = count.bool()
        self._queries, self._forwards = count.clone(), count.clone()
        self._backwards, self._zero_gradients = count.clone(), count.clone()
        self._right = ~self.fooled(torch.arange(len(count), device=count.device), self.delta)

    def open_rows(self) -> torch.Tensor:
        """Rows with a right answer before the attack and no success yet."""
        return (self._right & ~self._found).nonzero().flatten()

    def slope(self, rows: torch.Tensor, delta: torch.Tensor) -> Slope:
        """One forward and one backward pass; the gradient over the content where it is finite, zero elsewhere."""
        batch = self._part(rows)
        with torch.enable_grad():
            point = (batch.embeddings + delta).requires_grad_()
            logits = batch.logits(point)
            rising = losses(logits, batch.labels, self.loss)
            (gradient,) = torch.autograd.grad(rising.sum(), point)
        gradient = gradient.masked_fill(~batch.content[:, :, None], 0.0)
        largest = gradient.abs().amax(dim=(1, 2))
        broken = ~largest.isfinite()
        if broken.any():
            gradient[broken] = 0.0
        self._count(rows, delta)
        self._backwards[rows] += 1
        self._zero_gradients[rows] += (broken | (largest == 0)).long()
        return Slope(rising.detach(), margins(logits.detach(), batch.labels), gradient)

    def margins(self, rows: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """One forward pass; returns the margins, shape (rows,), below 0 where the answer is wrong."""
        batch = self._part(rows)
        with torch.no_grad():
            logits = batch.logits(batch.embeddings + delta)
        self._count(rows, delta)
        return margins(logits, batch.labels)

    def fooled(self, rows: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """One forward pass; returns where the answer is wrong, shape (rows,), bool."""
        return self.margins(rows, delta) < 0 if len(rows) else rows.bool()

    def wrong(self, rows: torch.Tensor, delta: torch.Tensor, fooled: torch.Tensor) -> torch.Tensor:
        """Returns which of the points that fooled have a wrong answer, shape (rows,), bool.

        For responses these are fewer, because another response can still be right.
        """
        if self.batch.grade is None or not fooled.any():
            return fooled
        asked = fooled.nonzero().flatten()
        part = self._part(rows[asked])
        with torch.no_grad():
            grades = part.grades(part.embeddings + delta[asked]) or ()
        return fooled.index_copy(0, asked, torch.tensor([not each.correct for each in grades], device=fooled.device))

    def propose(self, rows: torch.Tensor, delta: torch.Tensor, fooled: torch.Tensor) -> None:
        """Keeps these points; points that fooled count as found, and their rows close."""
        self.delta[rows] = delta
        self._found[rows] |= fooled

    def propose_smaller(self, rows: torch.Tensor, delta: torch.Tensor, fooled: torch.Tensor, norm: Norm) -> None:
        """Keeps points that fooled and are smaller than the row's best; without success, the last point."""
        better = ~self._found[rows] | (fooled & (sizes(delta, norm) < sizes(self.delta[rows], norm)))
        self.propose(rows[better], delta[better], fooled[better])

    def shorten(self, bisections: int, norm: Norm) -> None:
        """Bisects the length of every perturbation found, one forward pass at a time."""
        rows = self._found.nonzero().flatten()
        found = self.delta[rows]
        low = torch.zeros(len(rows), 1, 1, device=found.device)
        high = torch.ones_like(low)
        for _ in range(bisections if len(rows) else 0):
            middle = (low + high) / 2
            fooled = self.fooled(rows, found * middle)
            self.propose_smaller(rows, found * middle, fooled, norm)
            low = torch.where(fooled[:, None, None], low, middle)
            high = torch.where(fooled[:, None, None], middle, high)

    def result(self) -> EmbeddingResult:
        """The result so far."""
        return EmbeddingResult(
            delta=self.delta,
            found=self._found,
            skipped=~self._right,
            queries=self._queries,
            forwards=self._forwards,
            backwards=self._backwards,
            zero_gradients=self._zero_gradients,
            unit=self.batch.unit,
        )

    def _count(self, rows: torch.Tensor, delta: torch.Tensor) -> None:
        """Counts one forward pass; it is a query unless the point is the clean one."""
        self._forwards[rows] += 1
        self._queries[rows] += delta.flatten(1).any(dim=1)

    def _part(self, rows: torch.Tensor) -> EmbeddedBatch:
        return self.batch if len(rows) == len(self.batch.labels) else self.batch.select(rows)
