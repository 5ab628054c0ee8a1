"""The margin, its gradient, and the Jacobian of the logits: exact, by plain backward passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from pydantic import Field

from robustness.sensitivity.batching import measure_batches
from robustness.sensitivity.input.units import PER_EMBEDDING, TokenUnits
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

MARGIN = Quantity("margin", "logits", Direction.ROBUST)
GRADIENT_NORM = Quantity("margin-gradient", PER_EMBEDDING, Direction.FRAGILE)
LARGEST_TOKEN_GRADIENT = Quantity("margin-gradient-token", PER_EMBEDDING, Direction.FRAGILE)
JACOBIAN_NORM = Quantity("jacobian-norm", PER_EMBEDDING, Direction.FRAGILE)


@final
@dataclass(frozen=True, slots=True)
class Margin:
    """The margin m = z_y - max over c != y of z_c; below 0 where the answer is wrong. Exact.

    For a response it is the smallest over its tokens: below 0 where the response changes. The changed response may
    still contain a right answer, so it is an estimate of the answer's margin.
    """

    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        return measure_batches(subject, MARGIN, self._of_batch, of_responses=True)

    def _of_batch(self, examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
        with torch.no_grad():
            values = margins(batch.logits(batch.embeddings), batch.labels).tolist()
        return [
            Reading(measure(MARGIN, value, kind_at(batch), forwards=1), example)
            for example, value in zip(examples, values, strict=True)
        ]


@final
@dataclass(frozen=True, slots=True)
class MarginGradient:
    """Norms of g, the margin's gradient over the content's embeddings. Exact at the point; says nothing beyond it.

    l2 over all tokens and the largest token's l2 (for attacks on one token), or l1 (for attacks in l-infinity). It
    scales with the logits, so between arms it is no evidence of fragility by itself. Units are per embedding, and in
    l2 also per median token norm and per distance of neighbouring tokens. For a response it is an estimate.
    """

    norms: Annotated[tuple[Literal["l2", "l1"], ...], Field(min_length=1)] = ("l2",)
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            readings = self._of_batch(examples, batch)
            units = TokenUnits.of(subject.any_victim)
            return [each for r in readings for each in (units.add(r) if r.measurement.norm == "l2" else [r])]

        return measure_batches(subject, GRADIENT_NORM, of_batch, of_responses=True)

    def _of_batch(self, examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
        gradient, _ = margin_gradients(batch)
        tokens = gradient.norm(dim=2)
        numbers = (
            (GRADIENT_NORM, "l2", tokens.norm(dim=1)),
            (LARGEST_TOKEN_GRADIENT, "l2", tokens.amax(dim=1)),
            (GRADIENT_NORM, "l1", gradient.abs().sum(dim=(1, 2))),
        )
        wanted = [number for number in numbers if number[1] in self.norms]
        return [
            Reading(measure(quantity, value, kind_at(batch), norm=norm, forwards=passes, backwards=passes), example)
            for passes, (quantity, norm, values) in zip((1, 0, 0), wanted, strict=False)  # one pass serves all
            for example, value in zip(examples, values.tolist(), strict=True)
        ]


@final
@dataclass(frozen=True, slots=True)
class JacobianNorm:
    """The largest singular value of J = dz/dE, shape (labels, content tokens x dim). Exact at the point.

    Computed by one backward pass per label and the eigenvalues of J J^T (labels x labels). Power iteration would only
    approach it from below. It is a lower bound of the Lipschitz constant over any ball around the point. Units are
    per embedding, per median token norm and per distance of neighbouring tokens. For a response it is an estimate: J
    is of two logits at its weakest token, the token's own and the best other.
    """

    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            jacobian, _ = logit_jacobians(batch)
            labels = {"norm": "l2", "forwards": 1, "backwards": jacobian.shape[1]}
            units = TokenUnits.of(subject.any_victim)
            return [
                reading
                for example, value in zip(examples, spectral_norms(jacobian).tolist(), strict=True)
                for reading in units.add(Reading(measure(JACOBIAN_NORM, value, kind_at(batch), **labels), example))
            ]

        return measure_batches(subject, JACOBIAN_NORM, of_batch, of_responses=True)


def kind_at(batch: EmbeddedBatch) -> Kind:
    """Returns the kind of the margin and its slopes: an estimate for a response whose answer is parsed."""
    return Kind.EXACT if batch.grade is None else Kind.ESTIMATE


def margin_gradients(batch: EmbeddedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the margin's gradient (batch, tokens, dim), zero outside the content, and the margins (batch,).

    One forward and one backward pass: rows do not interact, so the gradient of the sum holds every row's own.
    """
    with torch.enable_grad():
        point = batch.embeddings.detach().requires_grad_()
        values = margins(batch.logits(point), batch.labels)
        (gradient,) = torch.autograd.grad(values.sum(), point)
    return gradient.masked_fill(~batch.content[:, :, None], 0.0), values.detach()


def logit_jacobians(batch: EmbeddedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the Jacobians (batch, labels, tokens, dim), zero outside the content, and the logits (batch, labels).

    One forward pass, and one backward pass per label, for all rows at once.
    """
    with torch.enable_grad():
        point = batch.embeddings.detach().requires_grad_()
        logits = batch.logits(point)
        count = logits.shape[1]
        rows = [
            torch.autograd.grad(logits[:, label].sum(), point, retain_graph=label + 1 < count)[0]
            for label in range(count)
        ]
    return torch.stack(rows, dim=1).masked_fill(~batch.content[:, None, :, None], 0.0), logits.detach()


def spectral_norms(jacobians: torch.Tensor) -> torch.Tensor:
    """Returns the largest singular value of each matrix (batch, labels, ...), the rest of the axes flattened.

    sigma_max(J) = sqrt(lambda_max(J J^T)), in double precision; not finite where the matrix is not.

    >>> spectral_norms(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])).item()
    4.0
    """
    flat = jacobians.flatten(2).double()
    gram = flat @ flat.mT
    finite = gram.isfinite().all(dim=(1, 2))
    values = torch.linalg.eigvalsh(torch.where(finite[:, None, None], gram, 0.0))[:, -1].clamp_min(0).sqrt()
    return torch.where(finite, values, torch.nan)
