"""Sums of gradients without a buffer, against torch's own."""

from __future__ import annotations

import torch

from robustness.sensitivity.parameter.accumulation import add_parts_at_once


def cubic(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The weight turned twice, once as it is, and once through a node with two inputs."""
    first, second = weight.unbind()
    return ((x @ weight.T).tanh() @ weight).square().sum() + (weight.T @ weight).sum() + (first * second).sum()


def test_a_gradient_of_several_parts_is_torchs_own_beside_what_was_there() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(cubic(weight, x), weight)

    weight.grad = torch.full_like(weight, 7.0)
    value = cubic(weight, x)
    add_parts_at_once(value)
    value.backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(weight.grad, expected + 7.0, rtol=1e-12, atol=0.0)


def test_a_part_is_in_the_sum_before_the_next_one_is_known() -> None:
    weight = torch.ones(4, requires_grad=True)
    weight.grad = torch.zeros(4)
    seen: list[list[float]] = []
    older = weight * 2.0
    older.register_hook(lambda _: seen.append(weight.grad.tolist()))  # type: ignore[no-untyped-call, union-attr]

    value = (weight * 3.0).sum() + older.sum()  # the newer part is computed first
    add_parts_at_once(value)
    value.backward()  # type: ignore[no-untyped-call]

    assert seen == [[3.0] * 4]
    assert weight.grad.tolist() == [5.0] * 4


def test_a_leaf_without_a_sum_and_a_value_without_a_graph_are_left_to_torch() -> None:
    weight = torch.ones(3, requires_grad=True)
    value = (weight * weight).sum() + weight.sum()

    add_parts_at_once(value)
    value.backward()  # type: ignore[no-untyped-call]
    add_parts_at_once(torch.ones(()))

    assert weight.grad is not None and weight.grad.tolist() == [3.0] * 3
