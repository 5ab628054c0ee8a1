"""Every PEFT type of the installed peft on every kind of layer it takes: its own update against its own tangent.

The references are plain peft's: the update is what its merge makes of the layer less what was there before, and the
tangent space is spanned by the differences of that merge along each trained number.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import save_file
from sensitivity.peft_types import KINDS, config_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from robustness.sensitivity.parameter.tangent import Tangent, read_tangent
from robustness.sensitivity.parameter.weights import squared_norm
from robustness.tuners.matrices import weight_storages
from robustness.victims.files.checkpoint import Checkpoint

LAYERS = {
    "linear-square": lambda: nn.Linear(4, 4),
    "linear": lambda: nn.Linear(4, 6),
    "turned-square": lambda: Conv1D(4, 4),
    "turned": lambda: Conv1D(6, 4),
    "embedding": lambda: nn.Embedding(6, 4),
    "convolution": lambda: nn.Conv2d(4, 6, 2, padding=1),
    "convolution-in-time": lambda: nn.Conv1d(4, 6, 3, padding=1),
    "normalisation": lambda: nn.LayerNorm(4),
}

CURVED = {
    "OFT": "a rotation: R - I is no direction of the rotations at R",
    "BOFT": "a product of rotations",
    "HRA": "a product of reflections",
    "OSF": "a product of three factors that starts at the base's own, not at zero",
    "SSB": "inputs and outputs scaled: D1 W D2 - W is no sum of a scaling of either",
}
"""Types whose update need not lie in their tangent space, and why; all others are linear or homogeneous."""
SINGLE = {"FOURIERFT", "C3A", "DEFT", "ADAMSS"}
"""Types that compute in float32, whatever they are given."""
REFUSALS = (ValueError, TypeError, NotImplementedError, AttributeError, KeyError)
"""What peft raises for a layer that a type does not take."""


class Net(nn.Module):
    """One layer that is adapted."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.target = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.target(x)
        return answer


def adapted(kind: str, layer: nn.Module) -> Any:
    """The layer with an adapter of random numbers, in float64 where the type takes it.

    Raises:
        ValueError, TypeError, NotImplementedError, AttributeError, KeyError: the type does not take such a layer.
    """
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        model = get_peft_model(Net(layer), config_of(kind, ["target"])).eval()
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, mean=0.3, std=0.5)
    return model if kind == "ADAMSS" else model.double()


def merged(model: Any) -> dict[str, torch.Tensor]:
    """Weight and bias as plain peft merges them."""
    twin = copy.deepcopy(model.base_model.model.target)
    twin.merge()
    return {f"target.{name}": value.detach().double() for name, value in twin.get_base_layer().named_parameters()}


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in tensors.values()])


def differences(model: Any, step: float) -> torch.Tensor:
    """The derivative of the merge, a column a trained number, by central differences."""
    columns = []
    for parameter in [each for each in model.parameters() if each.requires_grad]:
        for entry in range(parameter.numel()):
            ends = []
            for sign in (1, -1):
                parameter.data.view(-1)[entry] += sign * step
                ends.append(flat(merged(model)))
                parameter.data.view(-1)[entry] -= sign * step
            columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, dim=1)


def tangent_of(model: Any, kind: str, base: dict[str, torch.Tensor], folder: Path) -> Tangent:
    """By the adapter's files, or by its layers where files do not tell."""
    (folder / "base").mkdir()
    save_file(base, folder / "base" / "model.safetensors")
    model.save_pretrained(folder / "adapter")
    checkpoint = Checkpoint("adapter", folder / "adapter", folder / "base", kind)
    storages = weight_storages(model.base_model.model)
    return read_tangent(checkpoint, merged(model), storages, lambda _: copy.deepcopy(model))


def cases() -> Iterator[Any]:
    for kind in KINDS:
        for name, make in LAYERS.items():
            try:
                merged(adapted(kind, make()))
            except REFUSALS:
                continue
            yield pytest.param(kind, name, id=f"{kind}-{name}".lower())


CASES = list(cases())


@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_an_update_lies_in_its_own_tangent_space(kind: str, layer: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = LAYERS[layer]()
    before = {f"target.{name}": value.detach().double() for name, value in module.named_parameters()}
    model = adapted(kind, module)
    update = {name: value - before[name] for name, value in merged(model).items()}
    map_ = differences(model, step=1e-2 if kind in SINGLE else 1e-5)
    left, sizes, _ = torch.linalg.svd(map_, full_matrices=False)
    left = left[:, sizes > 1e-4 * sizes.max()]

    tangent = tangent_of(model, kind, before, tmp_path)

    def share(of: dict[str, torch.Tensor]) -> float:
        return tangent.projected_square(of) / squared_norm(of)

    loose = kind in SINGLE
    generator = torch.Generator().manual_seed(2)
    gradient = {name: torch.randn(value.shape, generator=generator).double() for name, value in update.items()}
    assert tangent.dimension == left.shape[1] <= map_.shape[1]
    for direction in (update, gradient):
        expected = float((left.mT @ flat(direction)).square().sum() / flat(direction).square().sum())
        assert share(direction) == pytest.approx(expected, abs=1e-3 if loose else 1e-7)
    if kind in CURVED:
        assert share(update) < 0.999
    else:
        assert share(update) == pytest.approx(1, abs=1e-5 if loose else 1e-10)


def test_every_type_that_changes_weights_is_measured_on_some_layer() -> None:
    measured = {case.values[0] for case in CASES}

    assert set(KINDS) == measured
    assert {case.values[1] for case in CASES} == set(LAYERS)


@pytest.mark.parametrize("kind", ["LILY", "POLY", "MPC_N"])
def test_types_left_out_are_those_that_peft_does_not_merge(kind: str) -> None:
    with pytest.raises((NotImplementedError, ValueError)):
        merged(adapted(kind, nn.Linear(4, 4)))


@pytest.mark.parametrize("layer", ["linear-square", "linear"])
def test_a_rotations_share_is_that_of_the_turns_of_its_two_by_two_blocks(layer: str, tmp_path: Path) -> None:
    """OFT: at W' = W R the directions are W' (e_i e_jt - e_j e_it), i and j of one block."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = LAYERS[layer]()
    before = {f"target.{name}": value.detach().double() for name, value in module.named_parameters()}
    model = adapted("OFT", module)
    after = merged(model)
    update = {name: value - before[name] for name, value in after.items()}
    turns = []
    for i in (0, 2):
        turn = torch.zeros(4, 4, dtype=torch.float64)
        turn[i, i + 1], turn[i + 1, i] = 1, -1
        turns.append((after["target.weight"] @ turn).flatten())
    basis, _ = torch.linalg.qr(torch.stack(turns, dim=1))

    tangent = tangent_of(model, "OFT", before, tmp_path)

    weight = update["target.weight"].flatten()
    expected = float((basis.mT @ weight).square().sum() / weight.square().sum())
    assert tangent.dimension == 2
    assert tangent.projected_square(update) / squared_norm(update) == pytest.approx(expected, abs=1e-12)


def test_two_scalings_share_is_that_of_sums_of_rows_and_columns(tmp_path: Path) -> None:
    """SSB: at W' = D2 W D1 the directions are W'_ij (a_i + b_j), of which (1, ..., 1, -1, ..., -1) is none."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Linear(4, 6, bias=False)
    before = {"target.weight": module.weight.detach().double().clone()}
    model = adapted("SSB", module)
    after = merged(model)["target.weight"]
    update = {"target.weight": after - before["target.weight"]}
    rows = [(after * torch.eye(6).double()[:, [i]]).flatten() for i in range(6)]
    columns = [(after * torch.eye(4).double()[j]).flatten() for j in range(4)]
    map_ = torch.stack(rows + columns, dim=1)

    tangent = tangent_of(model, "SSB", before, tmp_path)

    weight = update["target.weight"].flatten()
    expected = float((map_ @ torch.linalg.lstsq(map_, weight, driver="gelsd").solution).square().sum())
    assert tangent.dimension == 6 + 4 - 1
    assert tangent.projected_square(update) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("layer", ["linear-square", "turned-square", "turned"])
def test_an_update_that_starts_at_a_part_of_the_weight_leaves_its_tangent_by_that_part(
    layer: str, tmp_path: Path
) -> None:
    """PiSSA: dW = s (B A - B0 A0), of which (I - P_B) B0 A0 (I - P_A) lies outside the tangent at B A."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = LAYERS[layer]()
    storage = weight_storages(Net(module))["target.weight"]
    before = storage.matrix(module.weight.detach().double().clone())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.LORA](
            target_modules=["target"], r=2, lora_alpha=6, init_lora_weights="pissa"
        )
        model = get_peft_model(Net(module), config).eval().double()
    target = model.base_model.model.target
    start = 3 * target.lora_B["default"].weight.detach() @ target.lora_A["default"].weight.detach()
    generator = torch.Generator().manual_seed(3)
    for factor in (target.lora_A["default"], target.lora_B["default"]):
        factor.weight.data += 0.5 * torch.randn(factor.weight.shape, generator=generator)
    a, b = target.lora_A["default"].weight.detach(), target.lora_B["default"].weight.detach()
    update = storage.matrix(merged(model)["target.weight"]) - before
    torch.testing.assert_close(update, 3 * b @ a - start, atol=1e-6, rtol=0)  # peft keeps the rest in float32
    outside = (torch.eye(len(b)).double() - b @ torch.linalg.pinv(b)) @ start
    outside = outside @ (torch.eye(a.shape[1]).double() - torch.linalg.pinv(a) @ a)

    tangent = tangent_of(model, "pissa", {"target.weight": module.weight.detach().double()}, tmp_path)

    stored = {"target.weight": storage.stored(update, module.weight.shape)}
    assert squared_norm(stored) - tangent.projected_square(stored) == pytest.approx(
        float(outside.square().sum()), abs=1e-6
    )


class Pair(nn.Module):
    """Two layers and a normalisation, of which the first is adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.target, self.norm, self.other = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)


@pytest.mark.parametrize(
    ("extra", "free"),
    [
        ({"bias": "all"}, {"target.bias", "other.bias", "norm.bias"}),
        ({"bias": "lora_only"}, {"target.bias"}),
        ({"modules_to_save": ["other", "norm"]}, {"other.weight", "other.bias", "norm.weight", "norm.bias"}),
    ],
)
def test_what_is_trained_in_full_beside_an_adapter_is_free(
    extra: dict[str, Any], free: set[str], tmp_path: Path
) -> None:
    base = Pair()
    ambient = {name: value.detach() for name, value in base.named_parameters()}
    config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.LORA](target_modules=["target"], r=2, **extra)
    model = get_peft_model(copy.deepcopy(base), config)
    nn.init.normal_(model.base_model.model.target.lora_B["default"].weight)
    model.save_pretrained(tmp_path)

    tangent = read_tangent(
        Checkpoint("adapter", tmp_path, tmp_path, "lora"), ambient, weight_storages(base), lambda _: model
    )

    for name in free:
        alone = {key: value.clone() if key == name else torch.zeros_like(value) for key, value in ambient.items()}
        tangent.project(alone)
        assert torch.equal(alone[name], ambient[name])
    assert tangent.dimension == 2 * (6 + 4 - 2) + sum(ambient[name].numel() for name in free)
