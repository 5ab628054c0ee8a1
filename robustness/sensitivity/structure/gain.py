"""The update's share of a layer's output, on real activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from robustness.sensitivity.batching import measure_batches, require_float32
from robustness.sensitivity.blocks import find_blocks, puts_tokens_first
from robustness.sensitivity.measurement import Kind, Quantity, Space, Target, measure
from robustness.sensitivity.probe import Reading, Subject, Unsupported
from robustness.sensitivity.structure.updates import Updates, WeightUpdate
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head

GAIN = Quantity("update-gain", scale_free=True)
OVER_CHANCE = Quantity("update-gain-over-chance", scale_free=True)


@dataclass(slots=True)
class Layer:
    """A changed layer, and its sums over tokens with inputs h; its weights are read when it runs."""

    module: Any
    name: str
    index: int | None
    """The block's."""
    size: float
    """|dW|^2."""
    entries: int
    """The number of inputs, or, for a convolution, of weights."""

    moved: float = 0.0
    """|dW h|^2."""
    answered: float = 0.0
    """|W_0 h|^2."""
    entered: float = 0.0
    """|h|^2; for a convolution summed over the inputs of each output."""


@final
@dataclass(frozen=True, slots=True)
class UpdateGain:
    """The root mean square of |dW h| over that of |W_0 h|, h the checkpoint's own activations of attended tokens.

    A further row has the ratio of |dW h| to the value of a random update of the same Frobenius norm. For Gaussian
    entries that value is |dW|_F |h| / sqrt(in). Above 1 the update is aligned with the layer's inputs. Covers linear
    layers and convolutions; a layer with several uses is measured over all. Exact on these examples. It is a share of
    a layer's output and no evidence of fragility.
    """

    space: Space = Space.STRUCTURE

    def measure(self, subject: Subject) -> Iterable[Reading]:
        """See Probe."""
        victim = subject.any_victim
        require_float32(victim)
        with Updates(subject.checkpoint, subject) as updates:
            layers = dict(_changed_layers(updates, dict(victim.model.named_modules())))
            if not layers:
                raise Unsupported("none of its linear layers was changed")

            def of_batch(examples: Sequence[Example], batch: EmbeddedBatch) -> list[Reading]:
                del examples
                tokens_first = _tokens_first(victim, batch)
                recording = _recording(layers, updates, batch, tokens_first=tokens_first)
                with _whole_or_not_at_all(layers), recording, torch.no_grad():
                    batch.logits(batch.embeddings)
                return []

            yield from measure_batches(subject, GAIN, of_batch, of_responses=True, needs_margin=False)
        yield from _readings(layers)


def _changed_layers(updates: Updates, modules: Mapping[str, torch.nn.Module]) -> Iterator[tuple[str, Layer]]:
    for update in updates.mappings():
        module = modules.get(updates.names[update.key].removesuffix(".weight"))
        if module is None or isinstance(module, _ConvTransposeNd) or not bool(update.change.any()):
            continue
        # All outputs of a linear layer read the same inputs: |h|^2 is computed once and serves each output.
        entries = update.before.shape[1] if update.is_linear else update.before.numel()
        size = float(update.change.double().square().sum())
        yield update.key, Layer(module, update.name, update.layer, size, entries)


@contextmanager
def _whole_or_not_at_all(layers: Mapping[str, Layer]) -> Iterator[None]:
    """Takes the sums of a batch that fails back: its parts are measured again."""
    before = [(layer, layer.moved, layer.answered, layer.entered) for layer in layers.values()]
    try:
        yield
    except BaseException:
        for layer, *sums in before:
            layer.moved, layer.answered, layer.entered = sums
        raise


@contextmanager
def _recording(
    layers: Mapping[str, Layer], updates: Updates, batch: EmbeddedBatch, *, tokens_first: bool
) -> Iterator[None]:
    """Sums over the layers' inputs in a forward pass, on the model's device, with one layer's update at a time."""
    attended = batch.attended
    with ExitStack() as stack:
        for key, layer in layers.items():

            def add(module: Any, inputs: Any, key: str = key, layer: Layer = layer) -> None:
                update = updates.read(key)
                assert update is not None, "its weights were read before"
                hidden = inputs[0].double()
                if isinstance(module, _ConvNd):
                    _add_convolved(module, hidden, attended, update, layer)
                else:
                    hidden = hidden.transpose(0, 1) if tokens_first and hidden.ndim == 3 else hidden
                    _add(_of_tokens(hidden, attended), update, layer)

            stack.callback(layer.module.register_forward_pre_hook(add).remove)
        yield


def _tokens_first(victim: Head, batch: EmbeddedBatch) -> bool:
    try:
        blocks = find_blocks(victim.model)
    except Unsupported:  # neither a list of blocks nor a layer known to rotate its input
        return False
    return puts_tokens_first(batch, next(iter(blocks.values())))


def _add(hidden: torch.Tensor, update: WeightUpdate, sums: Layer) -> None:
    """Vectors h, shape (count, in)."""
    sums.moved += float((hidden @ update.change.to(hidden).T).square().sum())
    sums.answered += float((hidden @ update.before.to(hidden).T).square().sum())
    sums.entered += float(hidden.square().sum())


def _of_tokens(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """The vectors of attended tokens, shape (count, dim); a pooler gets one vector per text, that of a token."""
    if hidden.shape[:2] == attended.shape:
        return hidden[attended]
    if hidden.shape[:-1] == (attended.numel(),):  # the tokens of all texts in sequence
        return hidden[attended.flatten()]
    return hidden.flatten(0, -2)


def _add_convolved(
    module: Any, hidden: torch.Tensor, attended: torch.Tensor, update: WeightUpdate, sums: Layer
) -> None:
    """Channels along the tokens, shape (batch, in, tokens)."""

    def convolve(kernel: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = module._conv_forward(of, kernel, None)
        return answer.mT[attended] if answer.mT.shape[:2] == attended.shape else answer

    change, before = update.stored(update.change).to(hidden), update.stored(update.before).to(hidden)
    sums.moved += float(convolve(change, hidden).square().sum())
    sums.answered += float(convolve(before, hidden).square().sum())
    sums.entered += float(convolve(torch.ones_like(change), hidden.square()).sum())


def _readings(layers: Mapping[str, Layer]) -> Iterator[Reading]:
    found: dict[Quantity, list[float]] = {GAIN: [], OVER_CHANCE: []}
    for layer in layers.values():
        chance = layer.size * layer.entered / layer.entries
        for quantity, below in ((GAIN, layer.answered), (OVER_CHANCE, chance)):
            if below:
                found[quantity].append((layer.moved / below) ** 0.5)
                yield _reading(quantity, found[quantity][-1], layer)
    for quantity, values in found.items():
        if values:
            yield _reading(quantity, float(np.median(values)))


def _reading(quantity: Quantity, value: float, layer: Layer | None = None) -> Reading:
    measurement = measure(quantity, value, Kind.EXACT, target=Target.THETA, scope="matrices", forwards=1)
    return Reading(measurement, layer=layer.index if layer else None, module=layer.name if layer else None)
