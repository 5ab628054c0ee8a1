"""The condition number of the margin at every depth: shows where small errors grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from robustness.sensitivity.batching import measure_batches
from robustness.sensitivity.blocks import find_blocks, recorded_inputs, recorded_output, refuse_other_layouts
from robustness.sensitivity.measurement import Direction, Kind, Quantity, Space, measure
from robustness.sensitivity.probe import Reading, Subject
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch, margins

CONDITION = Quantity("condition", "1", Direction.FRAGILE, scale_free=True)
PEAK = Quantity("peak-condition", "1", Direction.FRAGILE, scale_free=True)


@final
@dataclass(frozen=True, slots=True)
class ConditionProfile:
    """s_l = |dm/dh_l| |h_l| / |m| for the hidden states h_l before each block and after the last, from one backward.

    It is exact at the point and dimensionless. It is the relative change of the margin per relative change of h_l, in
    l2 over all tokens that the model attends to. `peak-condition` is the largest over depth.
    """

    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        found = find_blocks(subject.deciding_victim.model)
        blocks = list(found.values())
        names = [*found, f"{next(iter(found)).rpartition('.')[0]} output"]

        def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            values = condition_numbers(batch, blocks)
            readings = [
                Reading(measure(PEAK, value, Kind.EXACT, norm="l2", scope="all", forwards=1, backwards=1), example)
                for example, value in zip(examples, values.amax(dim=1).tolist(), strict=True)
            ]
            return readings + [
                Reading(measure(CONDITION, value, Kind.EXACT, norm="l2", scope="all"), example, depth, name)
                for depth, name in enumerate(names)
                for example, value in zip(examples, values[:, depth].tolist(), strict=True)
            ]

        return measure_batches(subject, PEAK, of_batch)


def condition_numbers(batch: EmbeddedBatch, blocks: list[torch.nn.Module]) -> torch.Tensor:
    """Returns s_l for the input of every block and the output of the last, shape (batch, blocks + 1).

    Raises:
        Unsupported: hidden states are not one vector per token.
    """
    with torch.enable_grad(), recorded_inputs(blocks) as inputs, recorded_output(blocks[-1]) as outputs:
        point = batch.embeddings.detach().requires_grad_()
        values = margins(batch.logits(point), batch.labels)
        hidden = [*inputs, *outputs]
        refuse_other_layouts(batch, blocks, hidden)
        gradients = torch.autograd.grad(values.sum(), hidden)
    attended = batch.attended[:, :, None]
    columns = [
        _frobenius(gradient, attended) * _frobenius(state.detach(), attended)
        for gradient, state in zip(gradients, hidden, strict=True)
    ]
    numbers: torch.Tensor = torch.stack(columns, dim=1) / values.detach().abs()[:, None]
    return numbers


def _frobenius(states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(states.float().masked_fill(~attended, 0.0).flatten(1), dim=1)
    return norms
