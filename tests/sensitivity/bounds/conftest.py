"""Networks of one and two blocks whose weights are random or planted, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from robustness.sensitivity.bounds.activations import GELU, SILU, TANH, TANH_GELU
from robustness.sensitivity.bounds.attention import Attention, Rotary
from robustness.sensitivity.bounds.feedforward import FeedForward, Linear
from robustness.sensitivity.bounds.linearised import Residual, TakeToken, linearise
from robustness.sensitivity.bounds.norms import Norm

TOKENS = 4


@dataclass(frozen=True)
class Weights:
    """Draws weights; `scale` of projections, `key_scale` of queries and keys, `gain` of norms."""

    generator: torch.Generator
    scale: float = 1.0
    key_scale: float = 1.0
    gain: float = 1.0

    def draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def linear(self, out: int, into: int, scale: float | None = None) -> Linear:
        return Linear((scale or self.scale) * self.draw(out, into) / math.sqrt(into), 0.2 * self.draw(out))

    def norm(self, width: int, *, centred: bool) -> Norm:
        gain = self.gain * (1 + 0.2 * self.draw(width))
        return Norm(gain, 0.2 * self.draw(width) if centred else None, 1e-5, centred)

    def attention(self, width: int, heads: int, *, causal: bool = False, key_heads: int | None = None) -> Attention:
        dim, rotary = width // heads, None
        if causal:
            angles = self.draw(TOKENS, dim // 2).repeat(1, 2)
            rotary = Rotary(angles.cos(), angles.sin())
        keys = dim * (key_heads or heads)
        return Attention(
            self.linear(width, width, self.key_scale), self.linear(keys, width, self.key_scale),
            self.linear(keys, width), self.linear(width, width), heads, dim**-0.5, causal, key_heads, rotary,
        )  # fmt: skip

    def plain(self, width: int, activation: Any = GELU) -> FeedForward:
        return FeedForward(self.linear(2 * width, width), activation, self.linear(width, 2 * width))

    def gated(self, width: int) -> FeedForward:
        up, gate = self.linear(2 * width, width), self.linear(2 * width, width)
        return FeedForward(up, SILU, self.linear(width, 2 * width), gate)


def encoder(weights: Weights, width: int, blocks: int, labels: int = 2) -> tuple[Any, ...]:
    layers: list[Any] = [weights.norm(width, centred=True)]
    for block in range(blocks):
        layers += [Residual((weights.attention(width, 2),)), weights.norm(width, centred=True)]
        layers += [
            Residual((weights.plain(width, TANH_GELU if block else GELU),)),
            weights.norm(width, centred=True),
        ]
    head = FeedForward(weights.linear(width, width), TANH, weights.linear(labels, width))
    return (*layers, TakeToken(0), head)


def decoder(weights: Weights, width: int, blocks: int, labels: int = 2) -> tuple[Any, ...]:
    layers: list[Any] = []
    for _ in range(blocks):
        attention = weights.attention(width, 2, causal=True, key_heads=1)
        layers += [Residual((weights.norm(width, centred=False), attention))]
        layers += [Residual((weights.norm(width, centred=False), weights.gated(width)))]
    return (*layers, weights.norm(width, centred=False), TakeToken(-1), weights.linear(labels, width))


@dataclass(frozen=True)
class Case:
    """A network with a text; differentiable in the text's vectors."""

    layers: tuple[Any, ...]
    x: torch.Tensor
    content: torch.Tensor
    label: int

    def margin(self, delta: torch.Tensor) -> torch.Tensor:
        z = linearise(self.layers, self.x + delta * self.content[:, None])[1][0]
        others = [c for c in range(len(z)) if c != self.label]
        return (z[self.label] - z[others]).min()


def make_case(kind: str, width: int, blocks: int, planted: str, seed: int) -> Case:
    """Planted: attention that nearly chooses one token, large weights, or a vector of almost no variance."""
    generator = torch.Generator().manual_seed(seed)
    weights = Weights(
        generator, scale=3.0 if planted == "large" else 1.0, key_scale=6.0 if planted == "sharp" else 1.0
    )
    x = weights.draw(TOKENS, width)
    if planted == "flat":
        x = 1.0 + 0.02 * x if kind == "encoder" else 0.02 * x
    layers = (encoder if kind == "encoder" else decoder)(weights, width, blocks)
    content = torch.tensor([kind == "decoder", True, True, kind == "decoder"])
    return Case(layers, x, content, int(linearise(layers, x)[1][0].argmax()))


KINDS = ("encoder", "decoder")
PLANTED = ("random", "sharp", "large", "flat")


@pytest.fixture(scope="session")
def case_of() -> Callable[..., Case]:
    return make_case


@pytest.fixture(scope="session")
def weights_of() -> Callable[..., Weights]:
    return lambda seed, **settings: Weights(torch.Generator().manual_seed(seed), **settings)
