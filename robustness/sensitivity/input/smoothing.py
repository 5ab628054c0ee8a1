"""Randomised smoothing in embedding space: what Gaussian noise on the content certifies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, final

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
)
from robustness.sensitivity.probe import Reading, Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

RADIUS = Quantity("certified-radius", "token-norms", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
ACCURACY = Quantity("certified-accuracy", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
ABSTAINED = Quantity("abstained", "share", Direction.FRAGILE, Aggregate.MEAN, scale_free=True)
NOISY = Quantity("noisy-accuracy", "share", Direction.ROBUST, Aggregate.MEAN, scale_free=True)
SIGMA_50 = Quantity("sigma-50", "token-norms", Direction.ROBUST, scale_free=True)
CPU_SAMPLE_TOKENS = 512
CUDA_SAMPLE_TOKENS = 65_536


@final
@dataclass(frozen=True, slots=True)
class Smoothing:
    """g(x) = argmax_c P(f(E + sigma N) = c) certifies R = sigma Phi^-1(p), p the Clopper-Pearson bound (1902.02918).

    N is standard Gaussian over the content's embeddings jointly, R an l2 radius in median token norms, 0 where g
    abstains or is wrong; its mean over examples is the average certified radius. The certificate is g's, not f's: it
    brackets no distance found by attacking f. The noise level is chosen from the grid by the average certified
    radius on examples that are not measured. `sigma-50` is the noise at which half of the accuracy above chance is
    lost there. Measurements carry sigma, or the radius certified, in the column `radius`.
    """

    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """In median token norms; the level is chosen on examples that are not measured."""
    selection_samples: PositiveInt
    """By which the class is chosen, apart from those that certify it."""
    samples: PositiveInt
    alpha: Annotated[float, Field(gt=0, lt=1)]
    radii: tuple[PositiveFloat, ...]
    """Of the certified-accuracy curve, in median token norms."""
    calibration_examples: PositiveInt
    calibration_samples: PositiveInt
    space: Space = Space.INPUT

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        curve, sigma, reason = self._calibrate(subject)
        yield from curve

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generator = _device_generator(subject, examples[0], batch)
            return list(self._certify(examples[0], batch, sigma, generator))

        for reading in measure_batches(subject, RADIUS, of_example, singly=True, any_precision=True):
            yield replace(
                reading, measurement=replace(reading.measurement, reason=reading.measurement.reason or reason)
            )

    def _certify(
        self, example: Example, batch: EmbeddedBatch, sigma: float, generator: torch.Generator
    ) -> Iterator[Reading]:
        first = noisy_counts(batch, sigma * batch.unit, self.selection_samples, generator)
        second = noisy_counts(batch, sigma * batch.unit, self.samples, generator)
        guess = int(first.argmax())
        p_lower = clopper_pearson_lower(int(second[guess]), self.samples, self.alpha)
        abstains = p_lower <= 0.5
        radius = certified_radius(p_lower, sigma) if guess == int(batch.labels[0]) else 0.0
        paid = {"forwards": self.selection_samples + self.samples, "diagnostics": {"p_lower": p_lower}}

        def row(quantity: Quantity, value: float, level: float, kind: Kind = Kind.CERT_PROB) -> Reading:
            labels = {"norm": "l2", "radius": level, "alpha": self.alpha, "target": Target.SMOOTHED} | paid
            return Reading(Measurement(quantity, value, kind, **labels), example)  # type: ignore[arg-type]

        yield row(RADIUS, radius, sigma)
        yield row(ABSTAINED, float(abstains), sigma, Kind.ESTIMATE)
        for level in self.radii:
            yield row(ACCURACY, float(radius >= level), level)

    def _calibrate(self, subject: Subject) -> tuple[list[Reading], float, str]:
        """The noise curve on the reserve, the chosen level, and why none could be chosen, if so."""
        reserve = replace(subject, examples=list(subject.reserve)[: self.calibration_examples])
        if not reserve.examples:
            return [], self.sigmas[0], "no further examples to choose sigma on: the first of the grid was taken"
        rows: list[NDArray[np.float64]] = []
        chances: list[float] = []

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generator = _device_generator(subject, examples[0], batch)
            levels = (0.0, *self.sigmas)
            counts = [
                noisy_counts(batch, level * batch.unit, self.calibration_samples if level else 1, generator)
                for level in levels
            ]
            rows.append(np.array([count[int(batch.labels[0])] / count.sum() for count in counts]))
            chances.append(1 / len(counts[0]) if batch.chance is None else batch.chance)
            return []

        failed = list(measure_batches(reserve, RADIUS, of_example, singly=True, any_precision=True))
        if not rows:
            return failed, self.sigmas[0], "sigma could not be chosen: no further example could be measured"
        shares = np.array(rows)
        accuracies = shares.mean(axis=0)
        chosen = self._best_sigma(shares[:, 1:])
        curve = [
            Reading(Measurement(NOISY, float(value), Kind.ESTIMATE, radius=sigma, target=Target.SMOOTHED))
            for sigma, value in zip(self.sigmas, accuracies[1:], strict=True)
        ]
        return [*curve, Reading(_sigma_50(self.sigmas, accuracies, chance=chances[0]))], chosen, ""

    def _best_sigma(self, shares: NDArray[np.float64]) -> float:
        """The level with the largest average certified radius, were the noisy shares (examples, levels) certified."""
        n = self.calibration_samples
        averages = [
            np.mean([certified_radius(clopper_pearson_lower(round(p * n), n, self.alpha), sigma) for p in column])
            for sigma, column in zip(self.sigmas, shares.T, strict=True)
        ]
        return self.sigmas[int(np.argmax(averages))]


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
    """Returns how often the model gives each answer under noise, shape (labels,).

    Noise is drawn on the device in batches of the same size whatever `count`, so memory is flat in it.

    Args:
        batch: of one example.
        sigma: in embedding units.
        count: noisy points.
        generator: on the batch's device.
    """
    rows, tokens, dim = batch.embeddings.shape
    assert rows == 1, "one example at a time"
    content = batch.content[0].nonzero().flatten()
    budget = CUDA_SAMPLE_TOKENS if batch.embeddings.is_cuda else CPU_SAMPLE_TOKENS
    size = max(1, budget // tokens)
    total: torch.Tensor | None = None
    with torch.inference_mode():
        for start in range(0, count, size):
            number = min(size, count - start)
            repeated = batch.select(torch.zeros(number, dtype=torch.long, device=content.device))
            noise = torch.randn(
                number, len(content), dim, generator=generator, device=content.device, dtype=batch.embeddings.dtype
            )
            repeated.embeddings[:, content] += sigma * noise
            logits = repeated.logits(repeated.embeddings)
            answers = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
            total = answers if total is None else total + answers
    assert total is not None, "count is at least 1"
    return total.cpu().numpy()


def _device_generator(subject: Subject, example: Example, batch: EmbeddedBatch) -> torch.Generator:
    seed = torch_generator(subject, example).initial_seed()
    return torch.Generator(batch.embeddings.device).manual_seed(seed)


def _sigma_50(sigmas: Sequence[float], accuracies: NDArray[np.float64], chance: float) -> Measurement:
    """Where the accuracy crosses halfway between that without noise and chance, linearly between levels."""
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
