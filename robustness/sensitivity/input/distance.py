"""The smallest perturbation of the embeddings that an ensemble of attacks finds to change the answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, final

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from robustness.recipes.embedding.attack import judge_embeddings
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.deepfool import DeepFool, ShrinkingPgd, best_of
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.sensitivity.batching import measure_batches
from robustness.sensitivity.input.gradient_masking import Battery, Search
from robustness.sensitivity.input.jacobian import logit_jacobians
from robustness.sensitivity.measurement import (
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    measure,
)
from robustness.sensitivity.probe import Reading, Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

DISTANCE = Quantity("distance", "embedding", Direction.ROBUST, scale_free=True)
RELATIVE = Quantity("relative-distance", "token-norms", Direction.ROBUST, scale_free=True)
PER_TOKEN = Quantity("distance-per-root-token", "token-norms", Direction.ROBUST, scale_free=True)
KAPPA = Quantity("kappa", "1", scale_free=True)
FIRST_ORDER = Quantity("first-order-radius", "token-norms", Direction.ROBUST, scale_free=True)

Norms = Annotated[tuple[Norm, ...], Field(min_length=1)]


@final
@dataclass(frozen=True, slots=True)
class AdversarialDistance:
    """r*(x) = min |delta| such that the answer at x + delta is wrong: the smallest find is an upper bound of it.

    DeepFool, then DDN from its find on (l2) or FMN (l-infinity), then PGD in shrinking balls, against each other
    label by itself; a fresh forward pass judges each find. 0 where the answer is wrong already.
    `relative-distance` is in median token norms of the victim, so that embeddings of different scale compare; `kappa`
    is the first-order radius over the distance: 1 for a linear model, far from 1 where gradients say nothing about
    distances.
    """

    norms: Norms
    steps: PositiveInt
    """Of DDN (l2) or FMN (linf)."""
    shrinking_rounds: NonNegativeInt
    """Of PGD, in balls smaller than the best find."""
    shrinking_steps: PositiveInt
    checked_examples: NonNegativeInt
    """On which the checks for masked gradients run; 0: no checks."""
    random_directions: PositiveInt
    """Of these checks, an example."""
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe; the checks for masked gradients come last, and void all that was found where one fails."""
        battery = Battery(self.checked_examples, self.random_directions)
        for norm in self.norms:
            search = self._search(norm)

            def of_batch(
                examples: Sequence[Example], batch: EmbeddedBatch, norm: Norm = norm, search: Search = search
            ) -> list[Reading]:
                return _readings(examples, batch, search(batch), norm)

            readings = list(measure_batches(subject, RELATIVE, of_batch))
            checks, failures = battery.run(subject, search, self._search(norm, effort=2), norm)
            for reading in readings:
                yield _voided(reading, failures)
            yield from checks

    def _search(self, norm: Norm, effort: int = 1) -> Search:
        return Ensemble(norm, effort * self.steps, effort * self.shrinking_rounds, self.shrinking_steps).search


@final
@dataclass(frozen=True, slots=True)
class FirstOrderRadius:
    """r1 = min over c of (z_y - z_c) / |grad (z_y - z_c)|_q, q dual to the norm; 0 where the answer is wrong.

    An estimate, no bound in either direction; exact for an affine model.
    """

    norms: Norms
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            jacobian, logits = logit_jacobians(batch)
            labels = logits.shape[1]
            return [
                Reading(
                    measure(FIRST_ORDER, value, Kind.ESTIMATE, norm=str(norm), forwards=1, backwards=labels), example
                )
                for norm in self.norms
                for example, value in zip(
                    examples,
                    (first_order_radii(jacobian, logits, batch.labels, norm) / batch.unit).tolist(),
                    strict=True,
                )
            ]

        return measure_batches(subject, FIRST_ORDER, of_batch)


@final
@dataclass(frozen=True, slots=True)
class Ensemble:
    """DeepFool, DDN or FMN, then PGD in shrinking balls, against each other label by itself: the smallest find."""

    norm: Norm
    steps: int
    shrinking_rounds: int
    shrinking_steps: int

    def search(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """Attacks the rows that are right; deterministic."""
        with torch.no_grad():
            logits = batch.logits(batch.embeddings)
        rows = (margins(logits, batch.labels) >= 0).nonzero().flatten()
        count = torch.ones_like(batch.labels)
        empty = EmbeddingResult(
            delta=torch.zeros_like(batch.embeddings),
            found=torch.zeros_like(count).bool(),
            skipped=torch.ones_like(count).bool().index_fill(0, rows, value=False),
            forwards=count,
            backwards=0 * count,
            zero_gradients=0 * count,
            unit=batch.unit,
        )
        if not len(rows):
            return empty
        labels = logits.shape[1]
        part = batch.select(rows)
        each = [self._against(two_labels(part, labels, shift)) for shift in range(1, labels)]
        best = best_of(each, self.norm)
        return replace(
            empty,
            delta=empty.delta.index_copy(0, rows, best.delta),
            found=empty.found.index_copy(0, rows, best.found),
            forwards=empty.forwards.index_add(0, rows, best.forwards),
            backwards=empty.backwards.index_add(0, rows, best.backwards),
            zero_gradients=empty.zero_gradients.index_add(0, rows, best.zero_gradients),
        )

    def _against(self, batch: EmbeddedBatch) -> EmbeddingResult:
        first = DeepFool(self.norm).perturb(batch)
        if self.norm is Norm.L2:
            reached = torch.where(first.found, sizes(first.delta, self.norm), batch.unit)
            second = Ddn(steps=self.steps).perturb(batch, reached)
        else:
            second = Fmn(self.norm, steps=self.steps).perturb(batch)
        shrinking = ShrinkingPgd(self.norm, self.shrinking_rounds, self.shrinking_steps)
        return shrinking.shorten(batch, best_of([first, second], self.norm))


def two_labels(batch: EmbeddedBatch, labels: int, shift: int) -> EmbeddedBatch:
    """Returns the batch with the true label's logit first and, second, that of the label `shift` places on.

    A point that is wrong there is wrong for the whole model; the nearest over all shifts is the model's nearest.
    """
    if labels == 2:
        return batch
    columns = torch.stack([batch.labels, (batch.labels + shift) % labels], dim=1)
    inner = batch.forward

    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        own = {name: values for name, values in inputs.items() if name != "two_labels"}
        return inner(embeddings, own).gather(1, inputs["two_labels"])

    inputs = {**batch.inputs, "two_labels": columns}
    return replace(batch, labels=torch.zeros_like(batch.labels), inputs=inputs, forward=forward)


def first_order_radii(jacobian: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns r1 in embedding units, shape (batch,); infinite where every gradient vanishes.

    Args:
        jacobian: (batch, labels, tokens, dim).
        logits: (batch, labels).
        labels: (batch,), the true ones.
        norm: of the perturbation.

    >>> jacobian = torch.tensor([[[[3.0, 4.0]], [[0.0, 0.0]]]])
    >>> first_order_radii(jacobian, torch.tensor([[10.0, 0.0]]), torch.tensor([0]), Norm.L2).item()
    2.0
    """
    flat = jacobian.flatten(2).double()
    own = flat.gather(1, labels[:, None, None].expand(-1, 1, flat.shape[2]))
    slopes = torch.linalg.vector_norm(own - flat, ord=norm.dual, dim=2)
    gaps = logits.double().gather(1, labels[:, None]) - logits.double()
    radii = torch.where(slopes > 0, gaps / slopes, torch.inf).clamp_min(0.0)
    return radii.scatter(1, labels[:, None], torch.inf).amin(dim=1)


def _readings(examples: Sequence[Example], batch: EmbeddedBatch, found: EmbeddingResult, norm: Norm) -> list[Reading]:
    """What one search found, judged afresh, with the first-order radius at the clean point."""
    judgement = judge_embeddings(batch, found.delta)
    skipped = margins(judgement.clean_logits, batch.labels) < 0
    reached = torch.where(judgement.succeeded, sizes(found.delta, norm), torch.inf)
    distances = torch.where(skipped, 0.0, reached).tolist()
    jacobian, logits = logit_jacobians(batch)
    linear = first_order_radii(jacobian, logits, batch.labels, norm).tolist()
    tokens = batch.content.sum(dim=1).tolist()
    costs = zip(found.forwards.tolist(), found.backwards.tolist(), found.zero_gradients.tolist(), strict=True)
    readings = []
    for row, (forwards, backwards, vanished) in enumerate(costs):
        paid = {"forwards": forwards + 3, "backwards": backwards + logits.shape[1]}
        labels = paid | {"norm": str(norm), "diagnostics": {"zero_gradients": float(vanished)}}
        distance, example = distances[row], examples[row]
        if math.isinf(distance):
            nothing = Measurement(
                RELATIVE,
                None,
                Kind.UPPER,
                norm=str(norm),
                status=MeasurementStatus.NOT_CONVERGED,
                reason="no attack of the ensemble found a wrong answer at any distance",
                **paid,
            )
            readings.append(Reading(nothing, example))
            continue
        relative = distance / batch.unit
        values = [(DISTANCE, distance), (RELATIVE, relative), (PER_TOKEN, relative / math.sqrt(max(1, tokens[row])))]
        readings += [Reading(measure(quantity, value, Kind.UPPER, **labels), example) for quantity, value in values]
        if distance > 0 and math.isfinite(linear[row]):
            kappa = measure(KAPPA, linear[row] / distance, Kind.ESTIMATE, norm=str(norm))
            readings.append(Reading(kappa, example))
    return readings


def _voided(reading: Reading, failures: Sequence[str]) -> Reading:
    """The bound still holds, but it is no evidence of robustness where a check for masked gradients failed."""
    measured = reading.measurement
    if not failures or measured.status is not MeasurementStatus.OK:
        return reading
    void = replace(measured, status=MeasurementStatus.NOT_CONVERGED, reason="voided: " + "; ".join(failures))
    return replace(reading, measurement=void)
