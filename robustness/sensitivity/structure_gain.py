"""How much of what a layer answers comes from its update, on real activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from robustness.sensitivity.batching import require_float32
from robustness.sensitivity.measurement import Kind, Quantity, Space, Target, measure
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.sensitivity.structure_updates import Updates, WeightUpdate
from robustness.victims.embedding import batches_of_any, embed_any

GAIN = Quantity("update-gain", scale_free=True)
OVER_CHANCE = Quantity("update-gain-over-chance", scale_free=True)


@dataclass(slots=True)
class Moments:
    """Sums over tokens for one layer with inputs h."""

    moved: float = 0.0
    """|dW h|^2."""
    answered: float = 0.0
    """|W_0 h|^2."""
    entered: float = 0.0
    """|h|^2."""


@final
@dataclass(frozen=True, slots=True)
class UpdateGain:
    """The root mean square of |dW h| over that of |W_0 h|, h the checkpoint's own activations of attended tokens.

    Beside it the ratio of |dW h| to what a random update of the same Frobenius norm would make of h, which for
    Gaussian entries is |dW|_F |h| / sqrt(in): above 1 the update is turned towards what the layer sees. Exact on
    these examples; it is a share of what a layer adds up, and no evidence of fragility.
    """

    space: Space = Space.STRUCTURE

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.any_victim
        require_float32(victim)
        with Updates(subject.checkpoint, subject) as updates:
            modules = dict(victim.model.named_modules())
            layers = {
                update.key: (modules[path], update)
                for update in updates.matrices()
                if (path := updates.names[update.key].removesuffix(".weight")) in modules
                and bool(update.change.any())
            }
        if not layers:
            raise Unsupported("no linear layer of it was changed")
        moments = {key: Moments() for key in layers}
        for examples in batches_of_any(victim, subject.examples):
            batch = embed_any(victim, examples)
            attended = batch.inputs["attention_mask"].bool()
            with torch.no_grad(), _recording(layers, moments, attended):
                batch.logits(batch.embeddings)
        yield from _readings({key: update for key, (_, update) in layers.items()}, moments)


@contextmanager
def _recording(
    layers: Mapping[str, tuple[torch.nn.Module, WeightUpdate]], moments: Mapping[str, Moments], attended: torch.Tensor
) -> Iterator[None]:
    """Adds up what the layers are given in a forward pass."""
    with ExitStack() as stack:
        for key, (module, update) in layers.items():

            def add(_module: Any, inputs: Any, update: WeightUpdate = update, sums: Moments = moments[key]) -> None:
                hidden = inputs[0]
                # A pooler is given one vector a text, which is a token's.
                hidden = hidden[attended] if hidden.shape[:2] == attended.shape else hidden.flatten(0, -2)
                hidden = hidden.double().cpu()
                sums.moved += float((hidden @ update.change.double().T).square().sum())
                sums.answered += float((hidden @ update.before.double().T).square().sum())
                sums.entered += float(hidden.square().sum())

            stack.callback(module.register_forward_pre_hook(add).remove)
        yield


def _readings(updates: Mapping[str, WeightUpdate], moments: Mapping[str, Moments]) -> Iterator[Reading]:
    found: dict[Quantity, list[float]] = {GAIN: [], OVER_CHANCE: []}
    for key, update in updates.items():
        sums = moments[key]
        chance = float(update.change.double().square().sum()) * sums.entered / update.before.shape[1]
        for quantity, below in ((GAIN, sums.answered), (OVER_CHANCE, chance)):
            if below:
                found[quantity].append((sums.moved / below) ** 0.5)
                yield _reading(quantity, found[quantity][-1], update)
    for quantity, values in found.items():
        if values:
            yield _reading(quantity, float(np.median(values)))


def _reading(quantity: Quantity, value: float, update: WeightUpdate | None = None) -> Reading:
    measurement = measure(quantity, value, Kind.EXACT, target=Target.THETA, scope="matrices", forwards=1)
    return Reading(measurement, layer=update.layer if update else None, module=update.name if update else None)
