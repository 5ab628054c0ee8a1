from __future__ import annotations

import numpy as np
import pytest
import torch

from robustness.sensitivity.parameter import tangent_maps
from robustness.sensitivity.parameter.tangent_maps import Basis, Mapped, range_of
from robustness.sensitivity.probe import Unsupported

ROWS, COLUMNS, RANK = 9, 7, 2


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    """Parameters that ask for gradients."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in shapes]


def normalised_rows(base: torch.Tensor, a: torch.Tensor, b: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """DoRA's merge (arXiv 2402.09353)."""
    moved = base + 0.5 * b @ a
    merged: torch.Tensor = magnitude[:, None] * moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True)
    return merged


@pytest.mark.parametrize("dense", [True, False])
def test_written_out_or_by_least_squares_the_projection_is_that_of_brute_force(
    dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = drawn((RANK, COLUMNS), (ROWS, RANK), (ROWS,))
    base, gradient = (each.detach() for each in drawn((ROWS, COLUMNS), (ROWS, COLUMNS), seed=1))
    monkeypatch.setattr(tangent_maps, "DENSE", 10**9 if dense else 0)

    part = range_of(("w",), lambda: [normalised_rows(base, *parameters)], parameters, RANK**2)

    jacobians = torch.func.jacrev(lambda *given: normalised_rows(base, *given), argnums=(0, 1, 2))(*parameters)
    map_ = torch.cat([each.detach().flatten(0, 1).flatten(1) for each in jacobians], dim=1)
    theirs = map_ @ torch.linalg.lstsq(map_, gradient.flatten(), driver="gelsd").solution
    (ours,) = part.project([gradient])
    assert isinstance(part, Basis if dense else Mapped)
    assert torch.allclose(ours.flatten(), theirs, atol=1e-12 if dense else 1e-7)
    assert part.dimension == int(torch.linalg.matrix_rank(map_)) == RANK * (ROWS + COLUMNS - RANK) + ROWS
    assert part.is_exact


def test_what_is_not_known_of_a_large_dimension_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two factors of a product and a number that nothing depends on: 32 numbers, of which 4 directions are idle."""
    parameters = [*drawn((RANK, COLUMNS), (ROWS, RANK)), *drawn((5,))]
    weights = lambda: [parameters[1] @ parameters[0]]  # noqa: E731
    exact = range_of(("w",), weights, parameters)
    monkeypatch.setattr(tangent_maps, "DENSE", 0)

    bound = range_of(("w",), weights, parameters)

    assert exact.is_exact and exact.dimension == RANK * (ROWS + COLUMNS - RANK)
    assert not bound.is_exact and bound.dimension == RANK * (ROWS + COLUMNS)


def test_a_sparse_update_moves_its_own_entries() -> None:
    """Sparse tensors have no second derivative; that the map is affine is enough."""
    indices = torch.tensor([[0, 3, 3], [1, 0, 4]])
    (values,) = drawn((3,))
    gradient = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 5)))

    def merged() -> list[torch.Tensor]:
        weight = torch.ones(4, 5, dtype=torch.float64)
        weight += torch.sparse_coo_tensor(indices, 2 * values, (4, 5))
        return [weight]

    (projected,) = range_of(("w",), merged, [values]).project([gradient])

    expected = torch.zeros_like(gradient)
    expected[indices[0], indices[1]] = gradient[indices[0], indices[1]]
    assert torch.allclose(projected, expected, atol=1e-12)


def test_a_curved_map_without_second_derivatives_is_refused() -> None:
    (values,) = drawn((3,))

    class Curved(torch.autograd.Function):
        @staticmethod
        def forward(_context: object, given: torch.Tensor) -> torch.Tensor:
            return given.exp()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(_context: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    with pytest.raises(Unsupported, match="has no second derivative"):
        range_of(("w",), lambda: [Curved.apply(values)], [values])


def test_least_squares_that_do_not_settle_are_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = drawn((RANK, COLUMNS), (ROWS, RANK))
    monkeypatch.setattr(tangent_maps, "DENSE", 0)
    monkeypatch.setattr(tangent_maps, "MAX_ITERATIONS", 2)

    part = range_of(("w",), lambda: [parameters[1] @ parameters[0]], parameters)

    with pytest.raises(Unsupported, match="did not converge in 2 steps"):
        part.project([torch.ones(ROWS, COLUMNS, dtype=torch.float64)])
