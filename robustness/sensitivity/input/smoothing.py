"""Randomised smoothing in embedding space: certificates from Gaussian noise on the content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.stats import beta, norm

from robustness.sensitivity.batching import measure_batches, torch_generator
from robustness.sensitivity.measurement import (
    Aggregate,
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.batches import TokenBatches
from robustness.victims.heads.embedded_batch import EmbeddedBatch

RADIUS = Quantity("certified-radius", "token-norms", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
AVERAGE = Quantity("average-certified-radius", "token-norms", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
CERTIFIED = Quantity("certified-accuracy", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
ABSTAINED = Quantity("abstained", "share", Direction.FRAGILE, Aggregate.MEAN, scale_free=True)
NOISY = Quantity("noisy-accuracy", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
SIGMA_50 = Quantity("sigma-50", "token-norms", Direction.ROBUST, scale_free=True)
CPU_SAMPLE_TOKENS = 512
CUDA_SAMPLE_TOKENS = 65_536


@final
@dataclass(frozen=True, slots=True)
class Smoothing:
    """g(x) = argmax_c P(f(E + sigma N) = c) certifies R = sigma Phi^-1(p), p the Clopper-Pearson bound (1902.02918).

    N is standard Gaussian over the content's embeddings jointly. R is an l2 radius in median token norms, 0 where g
    abstains or is wrong. The certificate is for g, not f, so it brackets no distance found by attacking f. Every
    checkpoint is measured at every level of one grid, so that arms pair at the same `sigma`.
    `average-certified-radius` is an example's mean over the grid, with all its certificates valid at once. It is a
    lower bound of the mean radius of the grid's smoothed classifiers. `sigma-50` is the noise that loses half of the
    accuracy above chance.
    """

    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """In median token norms; the same for all compared checkpoints."""
    selection_samples: PositiveInt
    """Samples that choose the class; other samples certify it."""
    samples: PositiveInt
    """Samples for each level."""
    alpha: Annotated[float, Field(gt=0, lt=1)]
    """Error probability of a certificate at one level."""
    radii: tuple[PositiveFloat, ...]
    """Radii of the certified-accuracy curves, in median token norms."""
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        curve = NoiseCurve(tuple(sorted(self.sigmas)))

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generator = _device_generator(subject, examples[0], batch)
            shares, radii, readings = [], [], list[Reading]()
            for sigma in curve.sigmas:
                first = noisy_counts(batch, sigma * batch.unit, self.selection_samples, generator)
                second = noisy_counts(batch, sigma * batch.unit, self.samples, generator)
                label = int(batch.labels[0])
                radius, found = self._at_level(sigma, int(first.argmax()), second, label)
                shares.append(second[label] / self.samples)
                radii.append(radius)
                readings += [Reading(each, examples[0]) for each in found]
            curve.add(batch, shares)
            labels = {"target": Target.SMOOTHED, "norm": "l2", "alpha": 1 - (1 - self.alpha) ** len(radii)}
            average = measure(AVERAGE, float(np.mean(radii)), Kind.CERT_PROB, **labels)
            return [*readings, Reading(average, examples[0])]

        yield from measure_batches(subject, RADIUS, of_example, singly=True, any_precision=True)
        yield from (Reading(each) for each in curve.measurements())

    def _at_level(
        self, sigma: float, guess: int, votes: NDArray[np.int64], label: int
    ) -> tuple[float, list[Measurement]]:
        """The certified radius at one level, and the level's other readings."""
        p_lower = clopper_pearson_lower(int(votes[guess]), self.samples, self.alpha)
        radius = certified_radius(p_lower, sigma) if guess == label else 0.0
        paid = {"forwards": self.selection_samples + self.samples, "diagnostics": {"p_lower": p_lower}}
        labels: dict[str, object] = {"norm": "l2", "alpha": self.alpha, "target": Target.SMOOTHED, "sigma": sigma}
        labels |= paid
        share = float(votes[label] / self.samples)
        found = [
            measure(RADIUS, radius, Kind.CERT_PROB, **labels),
            measure(ABSTAINED, float(p_lower <= 0.5), Kind.ESTIMATE, **labels),
            measure(NOISY, share, Kind.ESTIMATE, **labels | {"alpha": None}),
        ]
        largest = certified_radius(clopper_pearson_lower(self.samples, self.samples, self.alpha), sigma)
        for level in self.radii:
            if level <= largest:  # no vote could certify more
                certified = float(radius >= level)
                found.append(measure(CERTIFIED, certified, Kind.CERT_PROB, radius=level, **labels))
        return radius, found


@final
class NoiseCurve:
    """The accuracy over examples at every level of noise."""

    def __init__(self, sigmas: tuple[float, ...]) -> None:
        self.sigmas = sigmas
        self._rows: list[list[float]] = []
        self._chance = 0.0

    def add(self, batch: EmbeddedBatch, shares: Sequence[float]) -> None:
        """Adds one example's shares of right answers, one for each level; runs it once without noise."""
        with torch.inference_mode():
            logits = batch.logits(batch.embeddings)
        self._rows.append([float(logits[0].argmax() == batch.labels[0]), *shares])
        self._chance = 1 / logits.shape[1] if batch.chance is None else batch.chance

    def measurements(self) -> Iterator[Measurement]:
        """`sigma-50`, if there is an example."""
        if self._rows:
            yield _sigma_50(self.sigmas, np.array(self._rows).mean(axis=0), chance=self._chance)


def clopper_pearson_lower(successes: int, n: int, alpha: float) -> float:
    """Returns the one-sided lower confidence bound of a probability, with error at most alpha.

    >>> round(clopper_pearson_lower(100, 100, 0.001), 4)  # 0.001 ** (1 / 100)
    0.9333
    """
    return float(beta.ppf(alpha, successes, n - successes + 1)) if successes else 0.0


def certified_radius(p_lower: float, sigma: float) -> float:
    """Returns sigma Phi^-1(p), 0 where p is at most a half (arXiv 1902.02918, theorem 1 with p_B = 1 - p_A).

    >>> round(certified_radius(0.98, 1.0), 3)
    2.054
    """
    return sigma * float(norm.ppf(p_lower)) if p_lower > 0.5 else 0.0


def noisy_counts(batch: EmbeddedBatch, sigma: float, count: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Returns the count of each answer under noise, shape (labels,).

    Noise is drawn on the device in batches of one size, so memory does not grow with `count`. A batch whose forward
    pass does not fit the memory is halved, like all later ones.

    Args:
        batch: of one example.
        sigma: in embedding units.
        count: noisy points.
        generator: on the batch's device.

    Raises:
        OutOfMemoryError: a single noisy point does not fit.
    """
    rows, tokens, dim = batch.embeddings.shape
    assert rows == 1, "one example at a time"
    content = batch.content[0].nonzero().flatten()
    budget = CUDA_SAMPLE_TOKENS if batch.embeddings.is_cuda else CPU_SAMPLE_TOKENS
    size, fitting = max(1, budget // tokens), TokenBatches(budget)
    total: torch.Tensor | None = None
    with torch.inference_mode():
        for start in range(0, count, size):
            number = min(size, count - start)
            noise = torch.randn(  # all of it before memory may lack, so that votes do not depend on the memory
                number, len(content), dim, generator=generator, device=content.device, dtype=batch.embeddings.dtype
            )
            for _, answers in fitting.run(np.full(number, tokens), partial(_votes, batch, content, sigma * noise)):
                total = answers if total is None else total + answers
    assert total is not None, "count is at least 1"
    return total.cpu().numpy()


def _votes(batch: EmbeddedBatch, content: torch.Tensor, noise: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    """The count of each answer under some rows of the noise."""
    repeated = batch.select(torch.zeros(len(rows), dtype=torch.long, device=content.device))
    repeated.embeddings[:, content] += noise[int(rows[0]) : int(rows[-1]) + 1]
    logits = repeated.logits(repeated.embeddings)
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])


def _device_generator(subject: Subject, example: Example, batch: EmbeddedBatch) -> torch.Generator:
    seed = torch_generator(subject, example).initial_seed()
    return torch.Generator(batch.embeddings.device).manual_seed(seed)


def _sigma_50(sigmas: Sequence[float], accuracies: NDArray[np.float64], chance: float) -> Measurement:
    """The noise at which accuracy is halfway between clean accuracy and chance, interpolated linearly."""
    levels = [0.0, *sigmas]
    half = (accuracies[0] + chance) / 2
    for (low, a), (high, b) in zip(
        zip(levels, accuracies, strict=True), zip(levels[1:], accuracies[1:], strict=True), strict=False
    ):
        if a >= half > b:
            crossing = low + (high - low) * float((a - half) / (a - b))
            return Measurement(SIGMA_50, crossing, Kind.ESTIMATE, target=Target.SMOOTHED)
    reason = f"the accuracy does not fall past {half:.2f} between noise levels {levels[0]:g} and {levels[-1]:g}"
    return Measurement(
        SIGMA_50, None, Kind.ESTIMATE, target=Target.SMOOTHED, status=MeasurementStatus.NOT_CONVERGED, reason=reason
    )
