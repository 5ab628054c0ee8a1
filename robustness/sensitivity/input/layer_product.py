"""The classical bounds that multiply layers' constants: valid, but nearly always vacuous."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from robustness.sensitivity.batching import measure_batches, require_float32
from robustness.sensitivity.bounds.activations import GELU
from robustness.sensitivity.bounds.linearised import linearise, pull_all
from robustness.sensitivity.bounds.reading import Reader, ReadText
from robustness.sensitivity.input.certified import layer_product
from robustness.sensitivity.measurement import (
    VACUOUS_RATIO,
    Direction,
    Kind,
    Measurement,
    MeasurementStatus,
    Quantity,
    Space,
    Target,
    measure,
)
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.sensitivity.structure.capacity import change_bound
from robustness.sensitivity.structure.updates import Updates
from robustness.tasks.abilities import Ability
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

PRODUCT = Quantity("layer-product", "logits / embedding", Direction.FRAGILE)
RADIUS = Quantity("layer-product-radius", "token-norms", Direction.ROBUST, scale_free=True)
CAPACITY = Quantity("capacity-bound", "activations")
CHANGE = Quantity("capacity-change", "activations")
SHARES = (2.0, 200.0, 2e6, 2e12)
"""Divides the distance that constants at the text suggest, until the constants over the ball confirm it."""


@final
@dataclass(frozen=True, slots=True)
class LayerProduct:
    """The product of the layers' Lipschitz constants at the text, and the distance certified over a ball.

    A further row evaluates arXiv 2505.22355's capacity bound, reconstructed from its premises, on the pair's weights.
    Its network is the blocks' matrices in sequence with GELU between, at the mean embedding of the content. It has no
    biases, norms, attention or shortcuts, so it bounds nothing of the transformer. A bound is `vacuous` if it exceeds
    the bounded quantity a thousand times.
    """

    space: Space = Space.INPUT
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.LOGITS})

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        require_float32(subject.deciding_victim)
        reader = Reader(subject.deciding_victim)
        weights = _plain_network(subject)

        def of_example(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
            point = batch.embeddings[0][batch.content[0]].mean(dim=0).cpu().double()
            rows = [*self._product(reader.read(batch)), *_capacity(weights, point)]
            return [Reading(row, examples[0]) for row in rows]

        return measure_batches(subject, PRODUCT, of_example, singly=True)

    def _product(self, text: ReadText) -> Iterator[Measurement]:
        bound = layer_product(text, 0.0)
        steps, logits = linearise(text.layers, text.x)
        others = torch.cat([logits[0, : text.label], logits[0, text.label + 1 :]])
        margin = float(logits[0, text.label] - others.max())
        directions = torch.eye(logits.shape[1], dtype=text.x.dtype)[text.label] - torch.eye(logits.shape[1])
        slopes = pull_all(steps, directions[:, None]) * text.content[:, None]
        slope = float(slopes.flatten(1).norm(dim=1).max())
        yield _upper(PRODUCT, bound, slope)
        tries = (max(0.0, margin) / bound / share for share in SHARES)
        certified = next((each for each in tries if each * layer_product(text, each) <= margin), 0.0)
        status = MeasurementStatus.VACUOUS if bound > VACUOUS_RATIO * slope else MeasurementStatus.OK
        yield Measurement(RADIUS, certified / text.unit, Kind.CERT_DET, norm="l2", status=status)


def _upper(quantity: Quantity, bound: float, below: float) -> Measurement:
    status = MeasurementStatus.VACUOUS if bound > VACUOUS_RATIO * below else MeasurementStatus.OK
    target, norm = (Target.F, "l2") if quantity is PRODUCT else (Target.THETA, None)
    return measure(quantity, bound, Kind.UPPER, target=target, norm=norm, status=status)


Network = tuple[list[torch.Tensor], list[torch.Tensor]]


def _plain_network(subject: Subject) -> Network | None:
    """Weights of the base and their updates, for the blocks' linear layers whose shapes fit in sequence."""
    before: list[torch.Tensor] = []
    changes: list[torch.Tensor] = []
    try:
        with Updates(subject.checkpoint, subject) as updates:
            for update in updates.matrices():
                fits = not before or update.before.shape[1] == len(before[-1])
                if update.is_linear and update.layer is not None and fits:
                    before.append(update.before.double())
                    changes.append(update.change.double())
    except Unsupported:
        return None
    return (before, changes) if before else None


def _capacity(network: Network | None, point: torch.Tensor) -> Iterator[Measurement]:
    if network is None or network[0][0].shape[1] != len(point):
        reason = "it updates no weight of the blocks"
        status = MeasurementStatus.UNSUPPORTED
        yield Measurement(CAPACITY, None, Kind.UPPER, Target.THETA, status=status, reason=reason)
        return
    found = change_bound(*network, point, activation=GELU.value, lipschitz=GELU.first_max)
    yield _upper(CAPACITY, found.bound, found.observed)
    yield measure(CHANGE, found.observed, Kind.EXACT, target=Target.THETA)
