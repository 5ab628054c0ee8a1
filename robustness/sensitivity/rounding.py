"""What rounding the merged weights to few bits does to the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch

from robustness.sensitivity.batching import require_float32
from robustness.sensitivity.measurement import Aggregate, Direction, Kind, Quantity, Space, Target, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.sensitivity.weights import WeightSpace, block_parameters, squared_norm

FLIPPED = Quantity("flipped-by-rounding", "share", Direction.FRAGILE, Aggregate.MEAN, scale_free=True)
MOVED = Quantity("relative-change-of-weights", "share", scale_free=True)


@final
@dataclass(frozen=True, slots=True)
class WeightRounding:
    """Whether the answer changes when the blocks' matrices are rounded to `bits` bits, to nearest, one scale a row.

    Symmetric: w -> s round(w / s) with s = max |row| / (2^(bits - 1) - 1). Exact for that rounding; the change of the
    weights themselves, relative in Frobenius norm, stands beside it. Vectors (biases, norms) stay as they are.
    """

    bits: tuple[int, ...]
    space: Space = Space.PARAMETER

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.victim
        require_float32(victim)
        texts = [example.texts for example in subject.examples]
        before = victim.scores(texts).argmax(axis=1)
        with WeightSpace(block_parameters(victim.model)) as weights:
            matrices = {name: value.detach() for name, value in weights.parameters.items() if value.ndim == 2}
            whole = squared_norm(matrices)
            deltas = {bits: rounding_errors(matrices, bits) for bits in self.bits}
            for bits, delta in deltas.items():
                weights.place(delta)
                after = victim.scores(texts).argmax(axis=1)
                labels = {"target": Target.THETA, "scope": f"int{bits}"}
                share = (squared_norm(delta) / whole) ** 0.5
                yield Reading(measure(MOVED, share, Kind.EXACT, norm="frobenius", **labels))
                for example, old, new in zip(subject.examples, before, after, strict=True):
                    yield Reading(measure(FLIPPED, float(old != new), Kind.EXACT, forwards=2, **labels), example)


def rounding_errors(matrices: Mapping[str, torch.Tensor], bits: int) -> dict[str, torch.Tensor]:
    """Returns rounded minus exact weights, symmetric and one scale a row.

    >>> rounding_errors({"w": torch.tensor([[7.0, 3.4]])}, bits=4)["w"].round(decimals=3)
    tensor([[ 0.0000, -0.4000]])
    """
    errors = {}
    for name, matrix in matrices.items():
        scale = matrix.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / (2 ** (bits - 1) - 1)
        errors[name] = torch.round(matrix / scale) * scale - matrix
    return errors
