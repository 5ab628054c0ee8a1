"""The Jacobian of each block at the point: how much each block stretches hidden states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

import torch
from pydantic import PositiveInt

from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.batching import measure_batches, torch_generator
from robustness.sensitivity.blocks import find_blocks, recorded_inputs, recorded_output, refuse_other_layouts
from robustness.sensitivity.measurement import Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

BLOCK = Quantity("block-jacobian", scale_free=True)
COMPOSED = Quantity("composed-jacobian", scale_free=True)
SLACK = Quantity("alignment-slack", "log", scale_free=True)
EXHAUSTED = 1e-12
"""A direction shorter than this share of the first norm ends an example's iteration."""


@final
@dataclass(frozen=True, slots=True)
class BlockJacobians:
    """|dh_(l+1) / dh_l|_2 of each block, |dh_0 / dE|_2 of the embeddings' part, and |dh_L / dE|_2 of all together.

    Spectral norms over all tokens that the model attends to, by Golub and Kahan's bidiagonalisation. Products with J
    take two backward passes. Each value is a lower bound, near the norm after some steps. `alignment-slack` is the
    sum of the logs over the parts minus the log of the composition. It says how much the product of the parts
    overstates. A part is a contribution to an upper bound, no evidence of fragility by itself.
    """

    steps: PositiveInt
    """Of Golub and Kahan's bidiagonalisation."""
    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        found = find_blocks(subject.deciding_victim.model)
        blocks = list(found.values())
        names = ["embeddings", *found]
        layers = [None, *range(len(blocks))]

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            generators = [torch_generator(subject, example) for example in examples]
            with twice_differentiable(subject.deciding_victim, batch):
                norms = block_norms(batch, blocks, self.steps, generators)
            parts, whole = norms[:, :-1], norms[:, -1]
            slack = parts.log().sum(dim=1) - whole.log()
            labels = {"norm": "l2", "scope": "all"}
            paid = labels | {"forwards": 3, "backwards": 2 * self.steps * norms.shape[1]}
            readings = []
            for row, example in enumerate(examples):
                readings += [
                    Reading(measure(COMPOSED, float(whole[row]), Kind.LOWER, **paid), example),
                    Reading(measure(SLACK, float(slack[row]), Kind.ESTIMATE, **labels), example),
                ]
                readings += [
                    Reading(measure(BLOCK, value, Kind.LOWER, **labels), example, layer, name)
                    for value, layer, name in zip(parts[row].tolist(), layers, names, strict=True)
                ]
            return readings

        return measure_batches(subject, COMPOSED, of_batch)


def block_norms(
    batch: EmbeddedBatch, blocks: list[torch.nn.Module], steps: int, generators: Sequence[torch.Generator]
) -> torch.Tensor:
    """Returns lower bounds of the spectral norms, shape (batch, blocks + 2), double precision.

    In the order embeddings' part, blocks, composition.

    Args:
        batch: the points.
        blocks: the model's depth, in order.
        steps: of the bidiagonalisation.
        generators: one for each row, on the CPU: draws the iteration's start.

    Raises:
        Unsupported: hidden states are not one vector per token.
    """
    with torch.enable_grad(), recorded_inputs(blocks) as inputs, recorded_output(blocks[-1]) as outputs:
        point = batch.embeddings.detach().requires_grad_()
        batch.logits(point)
    refuse_other_layouts(batch, blocks, [*inputs, *outputs])
    states = [point, *inputs, *outputs]
    attended = batch.attended[:, :, None]
    width = max(state.shape[2] for state in states)
    start = point.new_zeros(*point.shape[:2], width)
    for row, generator in enumerate(generators):
        kept = attended[row, :, 0]
        start[row, kept] = torch.randn(int(kept.sum()), width, generator=generator).to(start)
    pairs = [*pairwise(states), (point, states[-1])]
    norms = [spectral_norm_lower(a, b, attended, start[:, :, : a.shape[2]], steps) for a, b in pairs]
    return torch.stack(norms, dim=1)


def spectral_norm_lower(
    before: torch.Tensor, after: torch.Tensor, attended: torch.Tensor, start: torch.Tensor, steps: int
) -> torch.Tensor:
    """Returns lower bounds of the norms of d after / d before, shape (batch,), double precision.

    The largest singular value of Golub and Kahan's bidiagonal matrix: after k steps at least as near as k power
    iterations. Rows do not interact, so each has an iteration of its own.

    Args:
        before: (batch, tokens, dim), from which `after` was computed.
        after: (batch, tokens, dim).
        attended: (batch, tokens, 1), bool: the tokens that count.
        start: (batch, tokens, dim), the start of each row's iteration.
        steps: maximum.

    >>> before = torch.tensor([[[1.0, 1.0]]], requires_grad=True)
    >>> after = before * torch.tensor([3.0, 4.0])
    >>> round(spectral_norm_lower(before, after, torch.ones(1, 1, 1).bool(), torch.ones(1, 1, 2), steps=2).item(), 5)
    4.0
    """
    probe = torch.zeros_like(after, requires_grad=True)
    with torch.enable_grad():
        (pulled,) = torch.autograd.grad(after, before, probe, create_graph=True)

    def forward(vector: torch.Tensor) -> torch.Tensor:
        (image,) = torch.autograd.grad(pulled, probe, vector, retain_graph=True)
        return image.masked_fill(~attended, 0.0)

    def backward(vector: torch.Tensor) -> torch.Tensor:
        (image,) = torch.autograd.grad(after, before, vector, retain_graph=True)
        return image.masked_fill(~attended, 0.0)

    size = start[:, 0, 0].double()
    diagonal, beside = [], []
    right, _ = _normalised(start.masked_fill(~attended, 0.0), torch.zeros_like(size))
    left = torch.zeros_like(after)
    length = torch.zeros_like(size)
    first = torch.zeros_like(size)
    for number in range(steps):
        left, alpha = _normalised(forward(right) - _column(length, left) * left, EXHAUSTED * first)
        first = alpha if number == 0 else first
        right, length = _normalised(backward(left) - _column(alpha, right) * right, EXHAUSTED * first)
        diagonal.append(alpha)
        beside.append(length)
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if steps > 1:
        matrix = matrix + torch.diag_embed(torch.stack(beside[:-1], dim=1), offset=1)
    norms: torch.Tensor = torch.linalg.matrix_norm(matrix, ord=2)
    return norms


def _normalised(vectors: torch.Tensor, least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row over its length, and the lengths; both are zero where a row is shorter than `least`."""
    lengths = torch.linalg.vector_norm(vectors.flatten(1).double(), dim=1)
    lengths = torch.where(lengths > least, lengths, 0.0)
    inverse = torch.where(lengths > 0, 1 / lengths.clamp_min(1e-300), 0.0)
    return vectors * _column(inverse, vectors), lengths


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values[:, None, None].to(like.dtype)
