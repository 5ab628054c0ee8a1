"""Upper bounds of the margin's local Lipschitz constant, and radii certified for the classifier itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from robustness.sensitivity.batching import measure_batches, require_float32, torch_generator
from robustness.sensitivity.bounds.certificate import Certificate, Sampling, certify
from robustness.sensitivity.bounds.linearised import linearise, product
from robustness.sensitivity.bounds.reading import Reader, ReadText
from robustness.sensitivity.measurement import Direction, Kind, MeasurementStatus, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

RADIUS = Quantity("certified-radius-local", "token-norms", Direction.ROBUST, scale_free=True)
UPPER = Quantity("lipschitz-upper", "logits / embedding", Direction.FRAGILE)
LOWER = Quantity("margin-lipschitz-lower", "logits / embedding", Direction.FRAGILE)


@final
@dataclass(frozen=True, slots=True)
class LipschitzUpper:
    """A radius within which the answer cannot change, and a slope that the margin nowhere exceeds in a ball.

    Both follow from the stacked deviations of all layers, weighed by forms that dominate every layer's second
    derivative on the ball (docs/certificates.md). They use no product of layers' constants and no estimate from
    below. Gaussian samples bound the norms, so the numbers are valid with probability 1 - alpha (`cert-prob`). On the
    shortest texts whole matrices also give certain bounds (`cert-det`). The certificate is of the classifier itself
    in exact arithmetic, in l2 over all content jointly. A radius is 0 where the answer is wrong. A further row has
    the steepest slope that a short ascent finds in the same ball.
    """

    radius: PositiveFloat = 2e-5
    """Radius of the slopes' ball, in median token norms."""
    samples: PositiveInt = 256
    """Gaussian rows that bound norms."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Probability that a sampled bound fails, for each example."""
    exact_examples: NonNegativeInt = 0
    """Number of shortest texts to certify without sampling too: a minute or two each."""
    exact_tokens: PositiveInt = 8
    """Longest text to certify without sampling: memory grows with the square of tokens x width."""
    ascent_steps: NonNegativeInt = 5
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        require_float32(subject.deciding_victim)
        reader = Reader(subject.deciding_victim)
        tokens: dict[str, int] = {}

        def sampled(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            text = reader.read(batch)
            tokens[examples[0].id] = len(text.x)
            generator = torch_generator(subject, examples[0])
            certificate = certify(
                text.layers, text.x, text.content, text.label, Sampling(self.samples, self.alpha, generator)
            )
            return list(self._rows(examples[0], text, certificate, self.alpha))

        def exact(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            text = reader.read(batch)
            certificate = certify(text.layers, text.x, text.content, text.label)
            return list(self._rows(examples[0], text, certificate, None))

        yield from measure_batches(subject, RADIUS, sampled, singly=True)
        short = sorted((each for each in tokens if tokens[each] <= self.exact_tokens), key=tokens.__getitem__)
        chosen = [each for each in subject.examples if each.id in short[: self.exact_examples]]
        yield from measure_batches(replace(subject, examples=chosen), RADIUS, exact, singly=True)

    def _rows(
        self, example: Example, text: ReadText, certificate: Certificate, alpha: float | None
    ) -> Iterator[Reading]:
        kind = Kind.CERT_DET if alpha is None else Kind.CERT_PROB
        numbers = {"stacked_norm": certificate.stacked_norm, "rounding": text.rounding}
        radius = certificate.radius() / text.unit
        paid = {"forwards": 1, "backwards": self.samples, "diagnostics": numbers}
        yield Reading(measure(RADIUS, radius, kind, norm="l2", alpha=alpha, **paid), example)
        distance = self.radius * text.unit
        bound, status, reason = certificate.lipschitz(distance), MeasurementStatus.OK, ""
        if bound is None:
            bound, status = layer_product(text, distance), MeasurementStatus.VACUOUS
            reason = f"nothing is certified beyond {certificate.horizon / text.unit:.2g}: the product of constants"
        labels = {"norm": "l2", "radius": self.radius, "alpha": alpha, "status": status, "reason": reason}
        yield Reading(measure(UPPER, bound, kind, **labels), example)
        if alpha is not None:
            lower = steepest_slope(text, distance, self.ascent_steps)
            yield Reading(measure(LOWER, lower, Kind.LOWER, norm="l2", radius=self.radius), example)


def layer_product(text: ReadText, distance: float) -> float:
    """Returns the product of the layers' constants, over the ball, for a difference of two logits.

    Args:
        text: at the ball's centre.
        distance: the ball's radius, in embedding units.
    """
    return 2**0.5 * product(text.layers, text.x, distance)


def steepest_slope(text: ReadText, distance: float, steps: int) -> float:
    """Returns the largest norm of the margin's gradient on a short ascent in the ball, a lower bound."""
    mask = text.content[:, None].to(text.x.dtype)

    def slope_at(delta: torch.Tensor) -> torch.Tensor:
        logits = linearise(text.layers, text.x + delta * mask)[1][0]
        others = torch.cat([logits[: text.label], logits[text.label + 1 :]])
        (gradient,) = torch.autograd.grad(logits[text.label] - others.max(), delta, create_graph=True)
        norm: torch.Tensor = gradient.norm()
        return norm

    delta, best = torch.zeros_like(text.x), 0.0
    with torch.enable_grad():
        for _ in range(steps + 1):
            moved = delta.clone().requires_grad_()
            slope = slope_at(moved)
            (ascent,) = torch.autograd.grad(slope, moved)
            best = max(best, float(slope.detach()))
            delta = delta + ascent * (distance / ascent.norm().clamp_min(1e-300))
            delta = delta * min(1.0, distance / max(float(delta.norm()), 1e-300))
    return best
