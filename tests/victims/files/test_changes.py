"""What a whole checkpoint changed of its base, on tensors with a known change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch

from robustness.victims.files.changes import find_change, low_rank

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def base() -> Tensors:
    draw = torch.Generator().manual_seed(0)
    shapes = {
        "embeddings.weight": (40, 32),
        "layer.0.query.weight": (32, 32),
        "layer.0.query.bias": (32,),
        "layer.0.dense.weight": (64, 32),
        "layer.0.LayerNorm.bias": (32,),
    }
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def changed(base: Mapping[str, torch.Tensor], *endings: str) -> Tensors:
    """A checkpoint as transformers saves it: one more prefix, a head, and noise on what is named."""
    draw = torch.Generator().manual_seed(1)
    found = {
        f"bert.{name}": tensor + 0.1 * torch.randn(tensor.shape, generator=draw) * name.endswith(endings)
        for name, tensor in base.items()
    }
    return found | {"classifier.weight": torch.ones(2, 32), "classifier.bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("endings", "adaptation", "words", "parameters"),
    [
        (("bias",), "bitfit", "biases alone: 2 of 5 tensors", 32 + 32 + 66),
        (("weight", "bias"), "full", "5 of 5 tensors", None),
        (("query.weight", "query.bias"), "full", "2 of 5 tensors", None),
        (("nothing",), "linear-probe", "nothing of 5 tensors is changed, a head is added", 66),
    ],
)
def test_a_checkpoint_is_called_by_what_it_changed(
    base: Tensors, endings: tuple[str, ...], adaptation: str, words: str, parameters: int | None
) -> None:
    found = find_change(base, changed(base, *endings))

    assert (found.adaptation, found.words, found.trainable_parameters) == (adaptation, words, parameters)


def test_the_base_itself_is_the_base(base: Tensors) -> None:
    assert find_change(base, dict(base)).adaptation == "base"


def test_other_names_are_no_change_of_nothing(base: Tensors) -> None:
    assert find_change(base, {"other.place": torch.ones(3)}).adaptation == "full"


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_merged_adapter_is_full_and_its_rank_is_said(base: Tensors, rank: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(2)
    merged = {name: tensor.to(dtype) for name, tensor in base.items()}
    for name in ("layer.0.query.weight", "layer.0.dense.weight"):
        rows, columns = base[name].shape
        up = torch.randn(rows, rank, generator=draw, dtype=dtype)
        merged[name] = merged[name] + 0.05 * up @ torch.randn(rank, columns, generator=draw, dtype=dtype)

    found = find_change({name: tensor.to(dtype) for name, tensor in base.items()}, merged)

    assert (found.adaptation, found.rank) == ("full", rank)
    assert f"rank {rank} in 2 of 5 tensors" in found.words


def test_a_base_that_was_only_rounded_is_the_base(base: Tensors) -> None:
    assert find_change(base, {name: tensor.bfloat16() for name, tensor in base.items()}).adaptation == "base"


def test_the_rank_is_that_of_numpy_where_nothing_is_rounded() -> None:
    draw = torch.Generator().manual_seed(3)
    before = torch.randn(48, 40, generator=draw, dtype=torch.float64)
    update = torch.randn(48, 5, generator=draw, dtype=torch.float64) @ torch.randn(
        5, 40, generator=draw, dtype=torch.float64
    )

    assert low_rank(before, before + update, 2.3e-16) == int(torch.linalg.matrix_rank(update)) == 5
    assert low_rank(before, before + torch.randn(48, 40, generator=draw, dtype=torch.float64), 2.3e-16) is None


def test_weights_of_another_base_are_told_from_tuned_ones_by_their_angle(base: Tensors) -> None:
    draw = torch.Generator().manual_seed(2)
    other = {name: torch.randn(tensor.shape, generator=draw) for name, tensor in base.items()}

    assert find_change(base, changed(base, "weight")).cosine == pytest.approx(1 / math.sqrt(1.01), abs=1e-3)
    assert abs(find_change(base, other).cosine) < 0.1
