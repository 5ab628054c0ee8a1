"""Activations, their derivatives and the suprema of these."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Activation:
    """A smooth function of one number, its derivatives, and suprema of their sizes rounded up."""

    name: str
    value: Function
    first: Function
    second: Function
    first_max: float
    second_max: float
    third_max: float


def _normal(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _tanh_gelu_inner(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scale = math.sqrt(2 / math.pi)
    return scale * (x + 0.044715 * x**3), scale * (1 + 0.134145 * x * x), scale * 0.26829 * x


def _tanh_gelu_first(x: torch.Tensor) -> torch.Tensor:
    u, du, _ = _tanh_gelu_inner(x)
    t = torch.tanh(u)
    return (1 + t) / 2 + x / 2 * (1 - t * t) * du


def _tanh_gelu_second(x: torch.Tensor) -> torch.Tensor:
    u, du, ddu = _tanh_gelu_inner(x)
    t = torch.tanh(u)
    return (1 - t * t) * (du + x / 2 * ddu - x * t * du * du)


def _silu_first(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s + x * s * (1 - s)


def _silu_second(x: torch.Tensor) -> torch.Tensor:
    s = torch.sigmoid(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


GELU = Activation(
    "gelu",
    lambda x: x * torch.special.ndtr(x),
    lambda x: torch.special.ndtr(x) + x * _normal(x),
    lambda x: (2 - x * x) * _normal(x),
    1.12905,
    0.79789,
    0.77900,
)
TANH_GELU = Activation(
    "tanh-gelu",
    lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    _tanh_gelu_first,
    _tanh_gelu_second,
    1.12906,
    0.79790,
    0.77700,
)
SILU = Activation("silu", torch.nn.functional.silu, _silu_first, _silu_second, 1.09985, 0.50001, 0.30830)
TANH = Activation(
    "tanh",
    torch.tanh,
    lambda x: 1 - torch.tanh(x) ** 2,
    lambda x: -2 * torch.tanh(x) * (1 - torch.tanh(x) ** 2),
    1.00001,
    0.76991,
    2.0001,
)
ACTIVATIONS = {each.name: each for each in (GELU, TANH_GELU, SILU, TANH)}
