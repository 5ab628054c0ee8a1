"""CLEVER: an estimate of the smallest adversarial distance from extreme gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.stats import kstest, weibull_max

from robustness.recipes.embedding.balls import Norm, random_in_ball
from robustness.sensitivity.batching import measure_batches, torch_generator
from robustness.sensitivity.input.jacobian import logit_jacobians
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.batches import TokenBatches
from robustness.victims.heads.embedded_batch import EmbeddedBatch

CLEVER = Quantity("clever", "token-norms", Direction.ROBUST, scale_free=True)
MIN_P_VALUE = 0.05
"""P-value of Kolmogorov and Smirnov's test below which the fitted law is not used."""
LARGEST_OVERSHOOT = 2.0
"""A fitted end point this many times the largest gradient seen means that the fit has diverged."""
EQUAL = 1e-6
"""Relative spread of maxima below which they count as equal."""


@final
@dataclass(frozen=True, slots=True)
class Clever:
    """min over c of (z_y - z_c) / L_c, at most R: L_c the end point of the law of the largest gradients in the ball.

    L_c is the location of a reverse Weibull law fitted to batch maxima of |grad (z_y - z_c)|_2 at uniform points of
    the l2 ball (arXiv 1801.10578). If the fit fails its test or diverges, L_c is the largest gradient seen. This is
    an estimate and no lower bound. It is too large where gradients are masked (arXiv 1804.07870), and in high
    dimension uniform points miss the worst direction. 0 where the answer is wrong.
    """

    radius: PositiveFloat
    """Radius of the ball, in median token norms."""
    batches: Annotated[int, Field(ge=2)]
    samples: PositiveInt
    """In each batch."""
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generator = torch_generator(subject, examples[0])
            maxima, gaps = gradient_maxima(batch, self.radius * batch.unit, self.batches, self.samples, generator)
            fits = [fit_end_point(column) for column in maxima.T]
            scores = [gap / end if end > 0 else np.inf for gap, (end, _) in zip(gaps, fits, strict=True)]
            value = max(0.0, min(*scores, self.radius * batch.unit) / batch.unit)
            count = 1 + self.batches * self.samples
            labels = {"norm": "l2", "radius": self.radius, "forwards": count, "backwards": count * (len(gaps) + 1)}
            fitted = float(np.mean([is_fit for _, is_fit in fits]))
            return [
                Reading(measure(CLEVER, value, Kind.ESTIMATE, diagnostics={"fitted": fitted}, **labels), examples[0])
            ]

        return measure_batches(subject, CLEVER, of_example, singly=True)


def gradient_maxima(
    batch: EmbeddedBatch, radius: float, batches: int, samples: int, generator: torch.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the largest |grad (z_y - z_c)|_2 of each batch, shape (batches, other labels), and the gaps z_y - z_c.

    Args:
        batch: of one example.
        radius: of the ball, in embedding units.
        batches: of uniform points of the ball.
        samples: points a batch.
        generator: on the CPU.

    Raises:
        OutOfMemoryError: a single point does not fit; batches that do not are halved.
    """
    logits = batch.logits(batch.embeddings).detach()[0].double()
    label = int(batch.labels[0])
    columns = torch.arange(len(logits), device=logits.device)
    others = columns[columns != label]
    many = batch.select(torch.zeros(samples, dtype=torch.long, device=batch.content.device))
    limit = torch.full((samples,), radius, device=batch.content.device)
    tokens = many.content.shape[1]
    fitting, maxima = TokenBatches(samples * tokens), []
    for _ in range(batches):
        points = random_in_ball(many.content, batch.embeddings.shape[2], limit, Norm.L2, [generator] * samples)
        moved = replace(many, embeddings=many.embeddings + points.to(many.embeddings))

        def largest(rows: NDArray[np.int64], moved: EmbeddedBatch = moved) -> NDArray[np.float64]:
            part = moved.select(torch.from_numpy(rows).to(moved.content.device))
            jacobian = logit_jacobians(part)[0].flatten(2).double()
            slopes = torch.linalg.vector_norm(jacobian[:, label : label + 1] - jacobian[:, others], dim=2)
            return np.asarray(slopes.amax(dim=0).cpu().numpy())

        parts = fitting.run(np.full(samples, tokens), largest)
        maxima.append(np.max([found for _, found in parts], axis=0))
    return np.stack(maxima), (logits[label] - logits[others]).cpu().numpy()


def fit_end_point(maxima: NDArray[np.float64]) -> tuple[float, bool]:
    """Returns the end point of the reverse Weibull law of some maxima, and whether it comes from the fit.

    The alternative is the largest maximum: if all are equal (as for a linear model), if the law does not fit, or if
    the fit diverges.

    >>> fit_end_point(np.array([2.0, 2.0, 2.0]))
    (2.0, False)
    """
    largest = float(maxima.max())
    if not np.isfinite(maxima).all() or float(np.ptp(maxima)) <= EQUAL * largest:
        return largest, False
    shape, end, scale = weibull_max.fit(maxima, loc=largest, scale=float(maxima.std()))
    sound = np.isfinite([shape, end, scale]).all() and largest <= end <= LARGEST_OVERSHOOT * largest
    if not sound or kstest(maxima, weibull_max(shape, end, scale).cdf).pvalue < MIN_P_VALUE:
        return largest, False
    return float(end), True
