"""Checks that a distance is not large only because gradients are masked (arXiv 1902.06705, 2206.13991)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch

from robustness.recipes.embedding.balls import Norm, rescale, sizes
from robustness.recipes.embedding.trial import EmbeddingResult
from robustness.sensitivity.batching import torch_generator
from robustness.sensitivity.blocks import are_token_vectors, find_blocks, recorded_output
from robustness.sensitivity.measurement import Kind, Measurement, Quantity
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, Forward, frozen, margins

Search = Callable[[EmbeddedBatch], EmbeddingResult]
"""Finds the smallest perturbations for a batch."""

JUST_INSIDE = 0.99
"""Distance of random points, in found distances; one that fools shows that the attack missed a nearer point."""
PLANTED_AT = 0.9
"""Position of the planted boundary between the inner points and the planted point."""
INNER_POINTS = 8
MIN_SHARE = 0.95
"""Least share of wrong answers found without a limit on the distance, and of planted ones recovered."""

FOUND = Quantity("check-unbounded-success", "share")
VANISHED = Quantity("check-zero-gradients", "share")
RANDOM = Quantity("check-random-directions-win", "share")
PLANTED = Quantity("check-planted-recovered", "share")


@final
@dataclass(frozen=True, slots=True)
class Battery:
    """Runs on the first examples with right answers; each failed check voids the distances."""

    examples: int
    """Number of examples; 0: no checks."""
    directions: int
    """Random directions for each example."""

    def run(
        self, subject: Subject, attacked: Iterable[Example], search: Search, norm: Norm
    ) -> tuple[list[Reading], list[str]]:
        """Returns the checks' readings and a sentence for each failed check.

        Args:
            subject: whose victim was attacked.
            attacked: examples with right answers on which the attack could run.
            search: the attack.
            norm: of the distances.
        """
        wanted = {example.id for example in attacked}
        chosen = [example for example in subject.examples if example.id in wanted][: self.examples]
        if not chosen:
            return [], []
        victim = subject.any_victim
        totals = _Totals()
        with frozen(victim):
            for example in chosen:
                batch = victim.embed([example])
                generators = [torch_generator(subject, example)]
                found = search(batch)
                totals.add(batch, found)
                totals.random_wins += random_directions_win(batch, found, norm, generators, self.directions)
                planted = plant(batch, victim.model, found, norm, generators)
                if planted is not None:
                    inside = search(planted.batch)
                    totals.planted += len(planted.batch.labels)
                    totals.recovered += int((inside.distance(norm) <= planted.radius * (1 + 1e-4)).sum())
        return totals.readings(norm), list(totals.failures())


@dataclass(slots=True)
class _Totals:
    """Sums of the checks over batches."""

    found: int = 0
    attacked: int = 0
    vanished: int = 0
    random_wins: int = 0
    planted: int = 0
    recovered: int = 0

    def add(self, batch: EmbeddedBatch, found: EmbeddingResult) -> None:
        """Adds one batch's results."""
        self.attacked += len(batch.labels)
        self.found += int(found.found.sum())
        self.vanished += int((found.zero_gradients > 0).sum())

    def readings(self, norm: Norm) -> list[Reading]:
        """One reading of the whole for each check."""
        shares = [
            (FOUND, self.found / self.attacked),
            (VANISHED, self.vanished / self.attacked),
            (RANDOM, self.random_wins / self.attacked),
        ]
        shares += [(PLANTED, self.recovered / self.planted)] if self.planted else []
        return [Reading(Measurement(name, value, Kind.ESTIMATE, norm=str(norm))) for name, value in shares]

    def failures(self) -> Iterator[str]:
        """A sentence for each failed check."""
        if self.found < MIN_SHARE * self.attacked:
            yield f"without a limit on the distance only {self.found} of {self.attacked} answers were changed"
        if self.vanished:
            yield f"the gradient vanished on {self.vanished} of {self.attacked} examples"
        if self.random_wins:
            yield f"random directions beat the attack on {self.random_wins} of {self.attacked} examples"
        if self.recovered < MIN_SHARE * self.planted:
            yield f"only {self.recovered} of {self.planted} planted wrong answers were found"


def random_directions_win(
    batch: EmbeddedBatch, found: EmbeddingResult, norm: Norm, generators: Sequence[torch.Generator], count: int
) -> int:
    """Returns the number of rows where a random point just inside the found distance is wrong."""
    inside = sizes(found.delta, norm) * JUST_INSIDE
    wins = torch.zeros_like(found.found)
    for _ in range(count):
        points = _random_points(batch, inside, norm, generators)
        with torch.no_grad():
            wins |= margins(batch.logits(batch.embeddings + points), batch.labels) < 0
    return int((wins & found.found).sum())


@final
@dataclass(frozen=True, slots=True)
class Planted:
    """A batch with a planted classifier, which has a wrong answer at a known distance."""

    batch: EmbeddedBatch
    radius: torch.Tensor
    """(batch,): the planted point's distance, in embedding units."""


def plant(
    batch: EmbeddedBatch, model: Any, found: EmbeddingResult, norm: Norm, generators: Sequence[torch.Generator]
) -> Planted | None:
    """Returns the batch with a linear readout per example, on the model's features, that has a wrong answer.

    The planted point p lies in a random direction at the found distance; inner points lie within half of it. The
    readout points from the inner points' mean feature to p's feature. Its threshold separates p from all inner
    points. Features are the last block's output, averaged over the tokens attended to. Rows that cannot be planted
    (nothing found, or p not beyond the inner points) are omitted; None if no row is left.

    Source: arXiv 2206.13991, with a closed form in place of a fitted readout.
    """
    radius = sizes(found.delta, norm)
    with torch.no_grad():
        far = _features(batch, model, batch.embeddings + _random_points(batch, radius, norm, generators))
        near = [_features(batch, model, batch.embeddings)]
        for number in range(1, INNER_POINTS):
            part = radius * 0.5 * number / (INNER_POINTS - 1)
            near.append(_features(batch, model, batch.embeddings + _random_points(batch, part, norm, generators)))
    inner = torch.stack(near, dim=1)
    direction = far - inner.mean(dim=1)
    direction = direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True).clamp_min(1e-30)
    highest = (inner * direction[:, None]).sum(dim=2).amax(dim=1)
    reached = (far * direction).sum(dim=1)
    rows = (found.found & (reached > highest)).nonzero().flatten()
    if not len(rows):
        return None
    threshold = highest + PLANTED_AT * (reached - highest)
    scale = 1 / (reached - highest).clamp_min(1e-30)
    part_batch = batch.select(rows)
    extra = {
        "planted_direction": (direction * scale[:, None])[rows],
        "planted_threshold": (threshold * scale)[rows],
        "planted_content": part_batch.content,
    }
    planted = replace(
        part_batch,
        labels=torch.zeros_like(part_batch.labels),
        inputs={**part_batch.inputs, **extra},
        forward=_planted_forward(batch, model),
    )
    return Planted(planted, radius[rows])


def _planted_forward(batch: EmbeddedBatch, model: Any) -> Forward:
    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        own = {name: values for name, values in inputs.items() if not name.startswith("planted_")}
        rows = replace(batch, inputs=own, content=inputs["planted_content"])  # the rows of the search
        features = _features(rows, model, embeddings)
        score = (features * inputs["planted_direction"]).sum(dim=1) - inputs["planted_threshold"]
        return torch.stack([torch.zeros_like(score), score], dim=1)

    return forward


def _features(batch: EmbeddedBatch, model: Any, embeddings: torch.Tensor) -> torch.Tensor:
    """The last block's output averaged over the attended tokens, shape (batch, dim).

    The logits if the blocks do not pass on one vector per token (Funnel pools them, XLM alternates two lists).
    """
    try:
        last = list(find_blocks(model).values())[-1]
    except Unsupported:
        return batch.logits(embeddings)
    with recorded_output(last) as outputs:
        logits = batch.logits(embeddings)
    attended = batch.attended[:, :, None]
    hidden = [each.float()[:, -attended.shape[1] :] for each in outputs[-1:]]  # learnt prompts precede the text
    if not are_token_vectors(batch, last, hidden):
        return logits
    return hidden[0].masked_fill(~attended, 0.0).sum(dim=1) / attended.sum(dim=1).clamp_min(1)


def _random_points(
    batch: EmbeddedBatch, radius: torch.Tensor, norm: Norm, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """A point of norm `radius` in a random direction of each row's content, shape (batch, tokens, dim)."""
    points = torch.zeros_like(batch.embeddings)
    for row, generator in enumerate(generators):
        count, dim = int(batch.content[row].sum()), points.shape[2]
        drawn = torch.randn(count, dim, generator=generator)
        points[row, batch.content[row]] = (drawn.sign() if norm is Norm.LINF else drawn).to(points.device)
    if norm is Norm.LINF:
        return points * radius[:, None, None]
    return rescale(points, radius)
