from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from robustness.tuners.matrices import Axes, Storage, is_linear, storage_of, weight_storages

COUNT = 5


class Codes(nn.Linear):
    """A linear layer whose weights are code numbers, as bitsandbytes makes them of a subclass of torch's."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(6, 4)
        self.weight = nn.Parameter(torch.zeros(shape, dtype=torch.int8), requires_grad=False)


@pytest.mark.parametrize("layer", [nn.Linear(6, 6), nn.Linear(6, 4), Conv1D(6, 6), Conv1D(4, 6)], ids=str)
def test_a_linear_layers_matrix_takes_inputs_to_outputs(layer: nn.Module) -> None:
    x = torch.randn(COUNT, 6)
    storage = storage_of(layer)

    assert storage is not None and storage.is_linear and is_linear(layer)
    matrix = storage.matrix(layer.weight)
    torch.testing.assert_close(x @ matrix.T + layer.bias, layer(x))
    assert torch.equal(storage.stored(matrix, layer.weight.shape), layer.weight)


@pytest.mark.parametrize("rows", [6, 4])
def test_an_embeddings_matrix_takes_one_hot_vectors_to_rows(rows: int) -> None:
    layer = nn.Embedding(rows, 6)
    storage = storage_of(layer)

    assert storage is not None and storage.is_lookup and not is_linear(layer)
    torch.testing.assert_close(torch.eye(rows) @ storage.matrix(layer.weight).T, layer(torch.arange(rows)))
    assert torch.equal(storage.stored(storage.matrix(layer.weight), layer.weight.shape), layer.weight)


def test_a_convolutions_matrix_takes_a_window_to_outputs() -> None:
    """The windows by torch's own unfolding."""
    layer = nn.Conv2d(3, 4, (2, 3), padding=1)
    x = torch.randn(COUNT, 3, 7, 8)
    storage = storage_of(layer)

    assert storage == Storage(Axes.KERNEL) and not is_linear(layer)
    windows = nn.functional.unfold(x, (2, 3), padding=1)
    answer = storage.matrix(layer.weight) @ windows + layer.bias[:, None]
    torch.testing.assert_close(answer.view(layer(x).shape), layer(x), atol=1e-5, rtol=1e-5)
    assert torch.equal(storage.stored(storage.matrix(layer.weight), layer.weight.shape), layer.weight)


def test_the_outputs_of_grouped_and_transposed_convolutions_are_rows() -> None:
    grouped, transposed = nn.Conv1d(6, 4, 3, groups=2), nn.ConvTranspose1d(6, 4, 3)

    first, second = storage_of(grouped), storage_of(transposed)

    assert first == Storage(Axes.KERNEL, groups=2)
    assert torch.equal(first.matrix(grouped.weight)[1], grouped.weight[1].flatten())
    assert second == Storage(Axes.TURNED_KERNEL)
    assert torch.equal(second.matrix(transposed.weight)[1], transposed.weight[:, 1].flatten())
    assert torch.equal(second.stored(second.matrix(transposed.weight), transposed.weight.shape), transposed.weight)


@pytest.mark.parametrize(
    "module", [nn.LayerNorm(6), nn.Dropout(), nn.ModuleList(), Codes((12, 1)), Codes((4, 6))], ids=lambda m: repr(m)
)
def test_other_modules_and_code_numbers_have_no_matrix(module: nn.Module) -> None:
    assert storage_of(module) is None


def test_a_layer_that_peft_has_wrapped_is_looked_at_itself() -> None:
    model = nn.Sequential(Conv1D(6, 6), nn.Linear(6, 6), nn.Embedding(3, 6))
    adapted = get_peft_model(model, LoraConfig(target_modules=["0", "1", "2"]))

    found = [storage_of(layer) for layer in adapted.base_model.model]

    assert found == [Storage(Axes.IN_OUT), Storage(Axes.OUT_IN), Storage(Axes.ROWS)]
    assert weight_storages(adapted.merge_and_unload()) == {
        "0.weight": Storage(Axes.IN_OUT), "1.weight": Storage(Axes.OUT_IN), "2.weight": Storage(Axes.ROWS),
    }  # fmt: skip
