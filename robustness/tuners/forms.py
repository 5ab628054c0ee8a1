"""Forms that reshape a frozen layer by few numbers: scaling, singular values, bias.

Formulas are for rows, y = x W, as in arXiv 2407.05417. The code works on the matrix of shape (out, in), whose columns
are W's rows, for any storage. Initial parameters leave the layer unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from robustness.tuners.matrices import Storage, storage_of

Tensors = Mapping[str, torch.Tensor]


class Form(Protocol):
    """One way to reshape a layer."""

    def start(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """The parameters' first values, by name."""

    def factors(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """Tensors computed once from the frozen layer, by name; not saved."""

    def apply(self, base: nn.Module, parameters: Tensors, factors: Tensors, x: torch.Tensor) -> torch.Tensor:
        """The reshaped layer's output."""

    def merged(self, base: nn.Module, parameters: Tensors, factors: Tensors) -> dict[str, torch.Tensor]:
        """The new value of the layer's own `weight` or `bias`."""


class Scaling:
    """D1 W, or D1 W D2: scales inputs, or inputs and outputs, of a linear layer (SSL, SSB; arXiv 2407.05417)."""

    def __init__(self, *, both_sides: bool) -> None:
        self._names = ("form_input", "form_output") if both_sides else ("form_input",)

    def start(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """Ones, shape (in,) and (out,)."""
        outputs, inputs = matrix(base).shape
        return {name: torch.ones({"form_input": inputs, "form_output": outputs}[name]) for name in self._names}

    def factors(self, base: nn.Module) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """None."""
        return {}

    def apply(self, base: nn.Module, parameters: Tensors, factors: Tensors, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """D2 applies only to the product; the bias stays unchanged."""
        product = nn.functional.linear(x * parameters["form_input"], matrix(base))
        product = product * parameters["form_output"] if "form_output" in parameters else product
        return product + base.bias if isinstance(base.bias, torch.Tensor) else product

    def merged(self, base: nn.Module, parameters: Tensors, factors: Tensors) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """The scaled weight."""
        scaled = matrix(base) * parameters["form_input"]
        if "form_output" in parameters:
            scaled = scaled * parameters["form_output"][:, None]
        return {"weight": stored(base, scaled)}


class Spectrum:
    """U (S + D) Vt: changes the singular values of a linear layer, but not its singular vectors.

    SAM-PARSER trains them freely; SVDiff keeps them at zero or above: U relu(S + D) Vt (arXiv 2407.05417). Only D is
    trained and saved; the factors are computed again from the base.
    """

    def __init__(self, *, rectified: bool) -> None:
        self._rectified = rectified

    def start(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """Zeros, shape (min(in, out),)."""
        return {"form_spectrum": torch.zeros(min(matrix(base).shape))}

    def factors(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """The thin SVD of the matrix: left (out, k), values (k,), right (k, in)."""
        left, values, right = torch.linalg.svd(matrix(base).detach().float(), full_matrices=False)
        return {"left": left, "values": values, "right": right}

    def apply(self, base: nn.Module, parameters: Tensors, factors: Tensors, x: torch.Tensor) -> torch.Tensor:
        """The unchanged layer's output plus the effect of the changed singular values."""
        change = self._change(parameters, factors).to(x.dtype)
        moved = nn.functional.linear(x, factors["right"].to(x.dtype)) * change
        answer: torch.Tensor = base(x) + nn.functional.linear(moved, factors["left"].to(x.dtype))
        return answer

    def merged(self, base: nn.Module, parameters: Tensors, factors: Tensors) -> dict[str, torch.Tensor]:
        """The weight with its new singular values."""
        update = (factors["left"] * self._change(parameters, factors)) @ factors["right"]
        whole = matrix(base)
        return {"weight": stored(base, whole + update.to(whole.dtype))}

    def _change(self, parameters: Tensors, factors: Tensors) -> torch.Tensor:
        if not self._rectified:
            return parameters["form_spectrum"]
        return torch.relu(factors["values"] + parameters["form_spectrum"]) - factors["values"]


class Bias:
    """W x + (b + D): trains only the bias, of linear layers and normalisations (arXiv 2106.10199)."""

    def start(self, base: nn.Module) -> dict[str, torch.Tensor]:
        """Zeros, shape (out,)."""
        if not isinstance(base.bias, torch.Tensor):
            raise ValueError(f"{type(base).__name__} has no bias")
        return {"form_bias": torch.zeros_like(base.bias)}

    def factors(self, base: nn.Module) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """None."""
        return {}

    def apply(self, base: nn.Module, parameters: Tensors, factors: Tensors, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """The layer's output plus D."""
        answer: torch.Tensor = base(x) + parameters["form_bias"]
        return answer

    def merged(self, base: nn.Module, parameters: Tensors, factors: Tensors) -> dict[str, torch.Tensor]:  # noqa: ARG002
        """The bias plus D."""
        assert isinstance(base.bias, torch.Tensor)
        return {"bias": base.bias + parameters["form_bias"]}


FORMS: Mapping[str, Form] = {
    "SSL": Scaling(both_sides=False),
    "SSB": Scaling(both_sides=True),
    "SAM_PARSER": Spectrum(rectified=False),
    "SVDIFF": Spectrum(rectified=True),
    "BITFIT": Bias(),
}
"""By peft type."""


def matrix(base: nn.Module) -> torch.Tensor:
    """The layer's matrix, shape (out, in); raises ValueError for any other kind of layer."""
    return _storage(base).matrix(_weight(base))


def stored(base: nn.Module, changed: torch.Tensor) -> torch.Tensor:
    """Another matrix in the layer's storage."""
    return _storage(base).stored(changed, _weight(base).shape)


def _storage(base: nn.Module) -> Storage:
    storage = storage_of(base)
    if storage is None or not storage.is_linear:
        raise ValueError(f"{type(base).__name__} is no linear layer")
    return storage


def _weight(base: nn.Module) -> torch.Tensor:
    assert isinstance(base.weight, torch.Tensor)
    return base.weight
