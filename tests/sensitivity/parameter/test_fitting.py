"""Probes of the loss of all examples where a batch does not fit the memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustness.sensitivity.parameter.curvature import Curvature
from robustness.sensitivity.parameter.sharpness import Sharpness

FORWARD, BACKWARD = "aten::native_layer_norm", "aten::native_layer_norm_backward"
PROBES = [Sharpness(frobenius=0.3, module_relative=0.02, adaptive=2.0, steps=1), Curvature(iterations=3, draws=2)]


class SmallMemory(TorchDispatchMode):
    """An allocator without room for a layer normalisation, or its gradient, of more than some texts."""

    def __init__(self, rows: int, operation: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows, self.operation, self.refused = rows, operation, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        keeps_graph = torch.is_grad_enabled() or "backward" in self.operation
        if func.name() == self.operation and keeps_graph and len(tree_leaves(found)[0]) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
@pytest.mark.parametrize("operation", [FORWARD, BACKWARD])
def test_batches_are_halved_until_they_fit_and_the_numbers_stay(
    probe: Any, operation: str, tiny: Any, subject_of: Any
) -> None:
    """In a backward pass a part of the sum is there when the memory ends."""
    subject = subject_of(tiny.peft, count=6)
    expected = values(probe, subject)
    before = [value.clone() for value in subject.victim.model.parameters()]

    with SmallMemory(2, operation) as memory:
        found = values(probe, subject)

    assert memory.refused >= 1
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert all(torch.equal(*pair) for pair in zip(before, subject.victim.model.parameters(), strict=True))
    assert all(value.grad is None for value in subject.victim.model.parameters())


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_a_single_text_that_does_not_fit_ends_the_search(probe: Any, tiny: Any, subject_of: Any) -> None:
    subject = subject_of(tiny.peft, count=2)
    subject.victim.model.requires_grad_(False)

    with pytest.raises(torch.OutOfMemoryError), SmallMemory(0, BACKWARD):
        values(probe, subject)


def values(probe: Any, subject: Any) -> dict[Any, float]:
    rows = (each.measurement for each in probe.measure(subject))
    return {(row.quantity.name, row.scope, row.norm): row.value for row in rows}
