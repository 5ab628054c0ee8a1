"""The effect of rounding the merged weights to few bits on the answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from pydantic import Field

from robustness.sensitivity.batching import require_float32
from robustness.sensitivity.measurement import Aggregate, Direction, Kind, Quantity, Space, Target, measure
from robustness.sensitivity.parameter.weights import WeightSpace, block_matrices, sum_squares
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.tuners.matrices import Storage

FLIPPED = Quantity("flipped-by-rounding", "share", Direction.FRAGILE, Aggregate.MEAN, scale_free=True)
MOVED = Quantity("relative-change-of-weights", "share", scale_free=True)


@final
@dataclass(frozen=True, slots=True)
class WeightRounding:
    """Whether the answer changes when the blocks' matrices are rounded to `bits` bits, to nearest.

    Symmetric, one scale per output: w -> s round(w / s) with s = max |row| / (2^(bits - 1) - 1). A row is the weights
    of one output of a linear layer or convolution, however the module stores them. Exact for this rounding. A further
    row has the change of the weights, relative in Frobenius norm. All other parameters stay unchanged.
    """

    bits: Annotated[tuple[Annotated[int, Field(ge=2, le=16)], ...], Field(min_length=1)]
    space: Space = Space.PARAMETER
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.SCORES})
    copies: ClassVar[int] = 1
    """Copies of the blocks' matrices beside the model: the originals."""

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.victim
        require_float32(victim)
        texts = [example.texts for example in subject.examples]
        before = victim.scores(texts).argmax(axis=1)
        matrices = block_matrices(victim.model)
        storages = {name: storage for name, (_, storage) in matrices.items()}
        with WeightSpace({name: value for name, (value, _) in matrices.items()}) as weights:
            whole = sum_squares(weights.origin(name) for name in matrices)
            for bits in self.bits:
                moved = sum_squares(_round(weights, storages, bits))
                after = victim.scores(texts).argmax(axis=1)
                labels = {"target": Target.THETA, "scope": f"int{bits}"}
                share = (moved / whole) ** 0.5
                yield Reading(measure(MOVED, share, Kind.EXACT, norm="frobenius", **labels))
                for example, old, new in zip(subject.examples, before, after, strict=True):
                    yield Reading(measure(FLIPPED, float(old != new), Kind.EXACT, forwards=2, **labels), example)


def rounding_error(matrix: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns rounded minus exact weights, shape (out, in), symmetric, one scale per output.

    >>> rounding_error(torch.tensor([[7.0, 3.4]]), bits=4).round(decimals=3)
    tensor([[ 0.0000, -0.4000]])
    """
    scale = matrix.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / (2 ** (bits - 1) - 1)
    error: torch.Tensor = torch.round(matrix / scale) * scale - matrix
    return error


def _round(weights: WeightSpace, storages: Mapping[str, Storage], bits: int) -> Iterator[torch.Tensor]:
    """Rounds one matrix after the other; yields each one's change."""
    for name, storage in storages.items():
        exact = weights.origin(name)
        error = storage.stored(rounding_error(storage.matrix(exact), bits), exact.shape)
        weights.place(name, error)
        yield error
