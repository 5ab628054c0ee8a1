"""FreeLB: trains on word embeddings that are perturbed towards a larger loss (arXiv 1909.11764)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

import torch
from transformers import Trainer

from robustness.training.defences import FreeLb
from robustness.victims.lookup import embedding_module, shifted_lookup


def ascend(delta: torch.Tensor, gradient: torch.Tensor, settings: FreeLb) -> torch.Tensor:
    """Returns each text's perturbation after one ascent step, projected into the ball around 0.

    delta' = P(delta + step_size g / |g|), where P scales what is longer than the radius to the radius. A gradient
    of 0 moves nothing.

    >>> moved = ascend(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[3.0, 4.0]]]), FreeLb(step_size=1.0, radius=0.5))
    >>> [round(float(each), 3) for each in moved[0, 0]]
    [0.3, 0.4]

    Args:
        delta: (batch, tokens, dim).
        gradient: of the loss, (batch, tokens, dim).
        settings: step size and radius.
    """
    length = _lengths(gradient)
    moved = delta + settings.step_size * torch.where(length > 0, gradient / length, 0.0)
    limit = settings.radius or inf
    length = _lengths(moved)
    return torch.where(length > limit, moved * (limit / length), moved)


def draw_start(real: torch.Tensor, table: torch.Tensor, settings: FreeLb, generator: torch.Generator) -> torch.Tensor:
    """Returns first perturbations, uniform in +-initial / sqrt(number of a text's entries), 0 at other tokens.

    Args:
        real: which tokens are perturbed, (batch, tokens), bool.
        table: the word embeddings, (tokens of the vocabulary, dim).
        settings: the initial magnitude; with 0 nothing is drawn.
        generator: on the CPU, so that all devices have the same draws.

    Returns:
        (batch, tokens, dim), on the device of `real`, in float32 or the table's own higher precision.
    """
    shape, dtype = (*real.shape, table.shape[1]), torch.promote_types(table.dtype, torch.float32)
    if not settings.initial:
        return torch.zeros(shape, dtype=dtype, device=real.device)
    drawn = (2 * torch.rand(shape, generator=generator) - 1).to(real.device, dtype) * real[:, :, None]
    entries = (real.sum(dim=1) * table.shape[1]).clamp(min=1).to(dtype)
    return drawn * (settings.initial / entries.sqrt())[:, None, None]


class FreeLbTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped for us
    """Takes the mean gradient of several passes over each batch, each under a worse perturbation than the last.

    The gradients of the parameters are by-products of the ascent, so that a batch costs `steps` passes. All passes of
    a batch have one dropout mask (section 3.3 of the paper), that of plain training: the perturbations have a
    generator of their own. Padding is never perturbed; of a text that is generated only the prompt is, which is what
    an attack can change.
    """

    def __init__(self, *, settings: FreeLb, perturbed_label: int | None, **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings
        self._perturbed_label = perturbed_label
        self._generator = torch.Generator().manual_seed(self.args.seed)
        self._parts = 1
        self._table = embedding_module(self.model).weight

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Accumulates the gradients of one batch; returns the mean loss of its passes."""
        inputs = self._prepare_inputs(inputs)
        delta = draw_start(self._perturbed(inputs), self._table, self._settings, self._generator)
        losses = []
        self._parts = self._settings.steps
        for step in range(1, self._parts + 1):
            is_last = step == self._parts
            delta = delta.detach().requires_grad_(not is_last)
            masks: AbstractContextManager[None] = nullcontext() if is_last else self._repeated_draws()
            with masks, shifted_lookup(self.model, inputs, delta):
                losses.append(super().training_step(model, inputs, num_items_in_batch))
            if delta.grad is not None:
                delta = ascend(delta.detach(), delta.grad * self._perturbed(inputs)[:, :, None], self._settings)
        self._parts = 1
        mean: torch.Tensor = torch.stack(losses).sum()  # each is its share
        return mean

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        """The loss of scoring, or a pass's share of a batch's loss."""
        found = super().compute_loss(model, inputs, *given, **named)
        return found if self._parts == 1 else found / self._parts

    def _perturbed(self, inputs: Any) -> torch.Tensor:
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        real: torch.Tensor = ids != self.processing_class.pad_token_id if mask is None else mask.bool()
        return real if self._perturbed_label is None else real & (inputs["labels"] == self._perturbed_label)

    def _repeated_draws(self) -> AbstractContextManager[None]:
        """Restores torch's random state at its end, for the next pass."""
        device = self.args.device
        return torch.random.fork_rng([device.index or 0] if device.type == "cuda" else [])


def _lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean length over tokens and dimensions, (batch, 1, 1)."""
    lengths: torch.Tensor = vectors.flatten(1).norm(dim=1)
    return lengths[:, None, None]
