"""The smallest perturbation of the embeddings by which an ensemble of attacks changes the answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, final

import torch
from pydantic import Field, NonNegativeInt, PositiveInt

from robustness.recipes.embedding.attack import judge_embeddings
from robustness.recipes.embedding.balls import Norm, random_in_ball, sizes
from robustness.recipes.embedding.deepfool import DeepFool, ShrinkingPgd, best_of
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.recipes.embedding.responses import lengthen
from robustness.recipes.embedding.trial import COSTS, EmbeddingResult, Loss, Trial
from robustness.sensitivity.batching import measure_batches
from robustness.sensitivity.convergence import GATE
from robustness.sensitivity.input.boundary_walk import BoundaryWalk
from robustness.sensitivity.input.gradient_masking import Battery
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
PER_ROW = ("delta", "found", "skipped", *COSTS)
NOT_FOUND = "no attack of the ensemble found a wrong answer at any distance"
CLOSED = "it has no token that may be perturbed: all are special or protected"
BISECTIONS = 8
"""Bisections of the start's length, which leave an error of 1/256."""

Norms = Annotated[tuple[Norm, ...], Field(min_length=1)]


@final
@dataclass(frozen=True, slots=True)
class AdversarialDistance:
    """r*(x) = min |delta| such that the answer at x + delta is wrong: the smallest |delta| found is an upper bound.

    In l2 the search is DeepFool, then a walk along the boundary to its nearest point. In l-infinity it is DeepFool
    and FMN, then PGD in shrinking balls. Each starts from x and from random points, against each other label
    separately. A fresh forward pass judges each result. The value is 0 where the answer is already wrong. Examples
    are attacked one by one, unpadded, so that results do not depend on each other. `relative-distance` is in median
    token norms of the victim, so that embeddings of different scale compare. `kappa` is the first-order radius over
    the distance: 1 for a linear model, far from 1 where gradients say nothing about distances. For responses the
    searches look for another response, and continue in its direction until the answer read from it is wrong.
    """

    norms: Norms
    steps: PositiveInt
    """Steps of the walk (l2) or FMN (linf)."""
    restarts: PositiveInt
    """Searches for each example and label, the first from x."""
    shrinking_rounds: NonNegativeInt
    """Rounds of PGD (linf), in balls smaller than the best perturbation found."""
    shrinking_steps: PositiveInt
    checked_examples: NonNegativeInt
    """Examples for the checks for masked gradients; 0: no checks."""
    random_directions: PositiveInt
    """Random directions of these checks for each example."""
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe; the checks for masked gradients come last; a failed check voids all results."""
        battery = Battery(self.checked_examples, self.random_directions)
        for norm in self.norms:
            readings = list(self._find(subject, norm))
            again = replace(subject, examples=GATE.choose(readings, RELATIVE))
            checked = GATE.check(readings, self._find(again, norm, effort=2), [RELATIVE, DISTANCE, PER_TOKEN, KAPPA])
            checks, failures = battery.run(subject, _attacked(readings), self._ensemble(norm).search, norm)
            for reading in checked:
                yield _voided(reading, failures)
            yield from checks

    def _find(self, subject: Subject, norm: Norm, effort: int = 1) -> Iterator[Reading]:
        search = self._ensemble(norm, effort).search

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            return _readings(examples, batch, lengthen(batch, search(batch)), norm)

        return measure_batches(subject, RELATIVE, of_example, singly=True, of_responses=True)

    def _ensemble(self, norm: Norm, effort: int = 1) -> Ensemble:
        rounds = effort * self.shrinking_rounds
        return Ensemble(norm, effort * self.steps, self.restarts, rounds, self.shrinking_steps)


@final
@dataclass(frozen=True, slots=True)
class FirstOrderRadius:
    """r1 = min over c of (z_y - z_c) / |grad (z_y - z_c)|_q, q dual to the norm; 0 where the answer is wrong.

    An estimate, no bound in either direction; exact for an affine model. For a response, at its weakest token.
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

        return measure_batches(subject, FIRST_ORDER, of_batch, of_responses=True)


@final
@dataclass(frozen=True, slots=True)
class Ensemble:
    """The smallest result of several searches of an example, against each other label separately."""

    norm: Norm
    steps: int
    restarts: int = 1
    shrinking_rounds: int = 0
    shrinking_steps: int = 1

    def search(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """Attacks the rows with right answers, one by one; deterministic, and no row depends on another."""
        with torch.no_grad():
            logits = batch.logits(batch.embeddings)
        wrong = margins(logits, batch.labels) < 0
        count = torch.ones_like(batch.labels)
        found = EmbeddingResult(
            delta=torch.zeros_like(batch.embeddings),
            found=torch.zeros_like(wrong),
            skipped=wrong,
            queries=0 * count,
            forwards=count,
            backwards=0 * count,
            zero_gradients=0 * count,
            unit=batch.unit,
        )
        labels = logits.shape[1]
        for row in (~wrong).nonzero().flatten():
            alone = batch.select(row[None])
            each = [self._against(two_labels(alone, labels, shift)) for shift in range(1, labels)]
            found = with_row(found, row[None], best_of(each, self.norm))
        return found

    def _against(self, batch: EmbeddedBatch) -> EmbeddingResult:
        """Runs the searches of one example and label as the rows of one batch."""
        first = DeepFool(self.norm).perturb(batch)
        if self.norm is Norm.LINF or not first.found.any():
            minimal = Fmn(self.norm, steps=self.steps) if self.norm is Norm.LINF else Ddn(steps=self.steps)
            first = best_of([first, minimal.perturb(batch)], self.norm)
        searches = [first, *self._restarted(batch, first)]
        rows = torch.zeros(len(searches), dtype=torch.long, device=batch.embeddings.device)
        starts = _stacked(searches)
        if self.norm is Norm.L2:
            ended = BoundaryWalk(self.steps).shorten(batch.select(rows), starts)
        else:
            shrinking = ShrinkingPgd(self.norm, self.shrinking_rounds, self.shrinking_steps)
            ended = shrinking.shorten(batch.select(rows), starts)
        return _smallest_row(ended, self.norm)

    def _restarted(self, batch: EmbeddedBatch, first: EmbeddingResult) -> Iterator[EmbeddingResult]:
        """DeepFool from random points at the distance of the first result."""
        far = torch.where(first.found, sizes(first.delta, self.norm), batch.unit)
        for number in range(1, self.restarts):
            generator = torch.Generator().manual_seed(number)
            start = random_in_ball(batch.content, batch.embeddings.shape[2], far, self.norm, [generator])
            start = start.to(batch.embeddings.dtype)
            moved = DeepFool(self.norm).perturb(replace(batch, embeddings=batch.embeddings + start))
            trial = Trial(batch, Loss.MARGIN)
            delta, one = start + moved.delta, torch.zeros_like(batch.labels)
            trial.propose_smaller(one, delta, trial.fooled(one, delta), self.norm)
            trial.shorten(BISECTIONS, self.norm)
            yield best_of([trial.result(), replace(moved, found=torch.zeros_like(moved.found))], self.norm)


def with_row(result: EmbeddingResult, row: torch.Tensor, one: EmbeddingResult) -> EmbeddingResult:
    """Returns the result with one row replaced and the costs added."""
    return replace(
        result,
        delta=result.delta.index_copy(0, row, one.delta),
        found=result.found.index_copy(0, row, one.found),
    ).with_costs_of(one, row)


def _stacked(results: Sequence[EmbeddingResult]) -> EmbeddingResult:
    """Joins results of batches of one shape."""
    joined = {name: torch.cat([getattr(each, name) for each in results]) for name in PER_ROW}
    return EmbeddingResult(**joined, unit=results[0].unit)


def _smallest_row(result: EmbeddingResult, norm: Norm) -> EmbeddingResult:
    """Reduces rows of one example to the smallest result, with the costs of all."""
    best = result.distance(norm).argmin()[None]
    costs = {name: getattr(result, name).sum()[None] for name in COSTS}
    return replace(result, delta=result.delta[best], found=result.found[best], skipped=result.skipped[best], **costs)


def two_labels(batch: EmbeddedBatch, labels: int, shift: int) -> EmbeddedBatch:
    """Returns the batch with the true label's logit first and, second, that of the label `shift` places on.

    A point that is wrong in it is wrong for the whole model; the nearest over all shifts is the model's nearest.
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
    """The results of one search, judged afresh, with the first-order radius at the clean point."""
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
            is_closed = not tokens[row]
            status = MeasurementStatus.UNSUPPORTED if is_closed else MeasurementStatus.NOT_CONVERGED
            reason = CLOSED if is_closed else NOT_FOUND
            nothing = Measurement(RELATIVE, None, Kind.UPPER, norm=str(norm), status=status, reason=reason, **paid)
            readings.append(Reading(nothing, example))
            continue
        relative = distance / batch.unit
        values = [(DISTANCE, distance), (RELATIVE, relative)]
        if norm is Norm.L2:  # the largest entry does not grow with the number of tokens
            values.append((PER_TOKEN, relative / math.sqrt(max(1, tokens[row]))))
        readings += [Reading(measure(quantity, value, Kind.UPPER, **labels), example) for quantity, value in values]
        if distance > 0 and math.isfinite(linear[row]):
            kappa = measure(KAPPA, linear[row] / distance, Kind.ESTIMATE, norm=str(norm))
            readings.append(Reading(kappa, example))
    return readings


def _attacked(readings: Iterable[Reading]) -> Iterator[Example]:
    """The examples with right answers on which the search ran, whether it found a wrong answer or not."""
    for reading in readings:
        measured = reading.measurement
        ran = bool(measured.value) or measured.status is MeasurementStatus.NOT_CONVERGED
        if reading.example is not None and measured.quantity == RELATIVE and ran:
            yield reading.example


def _voided(reading: Reading, failures: Sequence[str]) -> Reading:
    """Marks a bound after a failed check: it is still valid, but no evidence of robustness."""
    measured = reading.measurement
    if not failures or reading.example is None or measured.status is not MeasurementStatus.OK:
        return reading
    void = replace(measured, status=MeasurementStatus.NOT_CONVERGED, reason="voided: " + "; ".join(failures))
    return replace(reading, measurement=void)
