"""The adapter part of a method's file, one schema for each family of methods."""

from __future__ import annotations

from typing import Annotated, Literal, TypeGuard

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from robustness.definitions.model import Definition

Targets = Literal["attention", "linear"] | tuple[str, ...]
"""`attention`: query and value projections; `linear`: every linear layer of the repeated blocks; or names."""

Share = Annotated[float, Field(ge=0, lt=1)]


class LoraAdapter(Definition):
    """Low-rank updates of linear layers (arXiv 2106.09685), and variants."""

    peft_type: Literal["lora"]
    rank: PositiveInt
    alpha: PositiveInt
    """The update is scaled by alpha / rank."""
    dropout: Share
    """Share of the adapter's inputs that is zeroed in training."""
    target_modules: Targets
    variant: Literal["lora", "dora", "pissa"] = "lora"
    """`dora`: separate direction and magnitude (arXiv 2402.09353); `pissa`: starts from W's top singular vectors
    (arXiv 2404.02948), so that the update has at most twice the rank."""


class MpcAdapter(Definition):
    """LoRA under a matrix pattern constraint (arXiv 2407.05417)."""

    peft_type: Literal["mpc-o", "mpc-d", "mpc-n"]
    rank: PositiveInt
    alpha: PositiveInt
    dropout: Share
    target_modules: Targets
    weight: NonNegativeFloat
    """Weight in the loss of the mean penalty over the adapted layers; unused by mpc-n."""


class AdaLoraAdapter(Definition):
    """Updates A D B with ranks re-allocated during training (arXiv 2303.10512)."""

    peft_type: Literal["adalora"]
    initial_rank: PositiveInt
    target_rank: PositiveInt
    """Mean rank of a layer at the end."""
    alpha: PositiveInt
    dropout: Share
    target_modules: Targets
    start_share: Share
    """Share of all steps before the first rank is cut."""
    final_share: Share
    """Share of all steps at the end with constant ranks."""
    interval: PositiveInt
    """Steps between two allocations."""
    orthogonality_weight: NonNegativeFloat


class Ia3Adapter(Definition):
    """Scales keys, values and the inner feed-forward activations (arXiv 2205.05638)."""

    peft_type: Literal["ia3"]
    target_modules: Literal["keys-values-feedforward"] | tuple[str, ...]
    feedforward_modules: tuple[str, ...] = ()
    """The named targets whose input is scaled; only with names."""


class PromptAdapter(Definition):
    """Learnt vectors before the text, which cannot be merged into weights."""

    peft_type: Literal["prefix", "prompt", "p-tuning"]
    virtual_tokens: PositiveInt
    encoder_hidden_size: PositiveInt | None = None
    """Only p-tuning: width of the network that produces the vectors; absent: the base's width."""


class RandomProjectionAdapter(Definition):
    """Frozen random matrices with learnt scales between them."""

    peft_type: Literal["vera", "randlora"]
    rank: PositiveInt
    alpha: PositiveInt = 1
    """Only RandLoRA: its update is scaled by alpha / rank."""
    dropout: Share
    target_modules: Targets
    projection_seed: int = 0
    """Seed of the random matrices; the same for every training seed."""
    initial_scale: PositiveFloat = 0.1
    """Only VeRA: initial value of the inner scales."""


class OftAdapter(Definition):
    """Rotates weights by a learnt block-diagonal orthogonal matrix (arXiv 2306.07280)."""

    peft_type: Literal["oft"]
    block_size: PositiveInt
    dropout: Share
    target_modules: Targets


class FormAdapter(Definition):
    """Layers reshaped by few numbers; see robustness/tuners/forms.py."""

    peft_type: Literal["ssl", "ssb", "sam-parser", "svdiff", "bitfit"]
    target_modules: Literal["attention", "linear", "biased"] | tuple[str, ...]
    """`biased`: every linear layer and normalisation with a bias, except the head."""


Adapter = Annotated[
    LoraAdapter
    | MpcAdapter
    | AdaLoraAdapter
    | Ia3Adapter
    | PromptAdapter
    | RandomProjectionAdapter
    | OftAdapter
    | FormAdapter,
    Field(discriminator="peft_type"),
]


def virtual_tokens(adapter: Adapter | None) -> int:
    """Positions that the method uses."""
    return adapter.virtual_tokens if isinstance(adapter, PromptAdapter) else 0


Layered = LoraAdapter | MpcAdapter | AdaLoraAdapter | RandomProjectionAdapter | OftAdapter | FormAdapter
"""Adapters of linear layers, of the attention or all."""


def has_targets(adapter: Adapter | None) -> TypeGuard[Layered]:
    """Whether a method adapts linear layers, not biases, activations or prompts."""
    return isinstance(adapter, Layered) and adapter.target_modules != "biased"


def share_penalty(adapter: Adapter, parts: int) -> Adapter:
    """Returns a method with its penalty divided among a batch's parts, because each part adds the penalty.

    >>> adapter = MpcAdapter(peft_type="mpc-o", rank=8, alpha=8, dropout=0.0, target_modules="linear", weight=0.5)
    >>> share_penalty(adapter, 4).weight
    0.125
    """
    if isinstance(adapter, MpcAdapter):
        return adapter.model_copy(update={"weight": adapter.weight / parts})
    if isinstance(adapter, AdaLoraAdapter):
        return adapter.model_copy(update={"orthogonality_weight": adapter.orthogonality_weight / parts})
    return adapter
