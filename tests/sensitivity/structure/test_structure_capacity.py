from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from robustness.sensitivity.structure.capacity import change_bound, low_rank_dimension, reachable_dimension

ROWS, COLUMNS, RANK = 6, 5, 2


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W = gaussian(ROWS, COLUMNS, seed=0)
U, S, VT = torch.linalg.svd(W, full_matrices=False)


def lora(p: torch.Tensor) -> torch.Tensor:
    return p[: ROWS * RANK].view(ROWS, RANK) @ p[ROWS * RANK :].view(RANK, COLUMNS)


def dora(p: torch.Tensor) -> torch.Tensor:
    direction = W + lora(p[ROWS:])
    return p[:ROWS, None] * direction / direction.norm(dim=1, keepdim=True) - W


METHODS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int, int]] = {
    "lora": (lora, RANK * (ROWS + COLUMNS), RANK * (ROWS + COLUMNS - RANK)),
    "ia3": (lambda p: (p - 1)[:, None] * W, ROWS, ROWS),
    "ssl": (lambda p: W * (p - 1), COLUMNS, COLUMNS),
    # One scale moves freely between the two sides.
    "ssb": (lambda p: p[:ROWS, None] * W * p[ROWS:] - W, ROWS + COLUMNS, ROWS + COLUMNS - 1),
    "sam-parser": (lambda p: U @ torch.diag(p) @ VT, COLUMNS, COLUMNS),
    "svdiff": (lambda p: U @ torch.diag(torch.relu(S + p) - S) @ VT, COLUMNS, COLUMNS),
    "full": (lambda p: p.view(ROWS, COLUMNS), ROWS * COLUMNS, ROWS * COLUMNS),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_but_full_fine_tuning_reaches_a_strict_subset(method: str) -> None:
    update, parameters, expected = METHODS[method]

    capacity = reachable_dimension(update, 1 + 0.1 * gaussian(parameters, seed=3))

    assert (capacity.dimension, capacity.of) == (expected, ROWS * COLUMNS)
    assert (capacity.dimension < capacity.of) == (method != "full")


def test_dora_reaches_at_most_one_more_direction_a_row_than_lora() -> None:
    capacity = reachable_dimension(dora, 1 + gaussian(ROWS + RANK * (ROWS + COLUMNS), seed=4))

    assert METHODS["lora"][2] <= capacity.dimension <= METHODS["lora"][2] + ROWS


def test_the_dimension_of_low_rank_matrices_is_counted_right_up_to_full_rank() -> None:
    for rank in range(1, COLUMNS + 1):
        a, b = gaussian(ROWS, rank, seed=rank), gaussian(rank, COLUMNS, seed=rank + 9)

        def product(p: torch.Tensor, rank: int = rank) -> torch.Tensor:
            return p[: ROWS * rank].view(ROWS, rank) @ p[ROWS * rank :].view(rank, COLUMNS)

        found = reachable_dimension(product, torch.cat([a.flatten(), b.flatten()]))
        assert found.dimension == low_rank_dimension(ROWS, COLUMNS, rank)


def networks(count: int) -> list[tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        widths = rng.integers(2, 9, size=rng.integers(2, 6))
        shapes = list(zip(widths[1:], widths[:-1], strict=True))
        draw = [torch.tensor(rng.standard_normal(shape)) for shape in (*shapes, *shapes)]
        size = 10 ** rng.uniform(-3, 0.5)
        updates = [size * update for update in draw[len(shapes) :]]
        made.append((draw[: len(shapes)], updates, torch.tensor(rng.standard_normal(widths[0]))))
    return made


@pytest.mark.parametrize(("activation", "lipschitz"), [(torch.relu, 1.0), (torch.tanh, 1.0), (lambda z: 2 * z, 2.0)])
def test_the_bound_holds_on_random_networks_and_is_loose(
    activation: Callable[[torch.Tensor], torch.Tensor], lipschitz: float
) -> None:
    results = [change_bound(*network, activation=activation, lipschitz=lipschitz) for network in networks(100)]

    assert all(result.observed <= result.bound * (1 + 1e-9) for result in results)
    assert np.median([result.looseness for result in results if result.observed > 0]) > 3


def test_the_bound_is_met_where_nothing_is_lost() -> None:
    """Positive multiples of the identity: every inequality of its proof is an equality."""
    identity = torch.eye(4, dtype=torch.float64)

    result = change_bound([2 * identity] * 3, [0.5 * identity] * 3, torch.ones(4, dtype=torch.float64))

    assert result.observed == pytest.approx(2 * (2.5**3 - 2**3))
    assert result.looseness == pytest.approx(1)


def test_no_update_changes_nothing_and_is_bounded_by_nothing() -> None:
    identity = torch.eye(2, dtype=torch.float64)

    result = change_bound([identity], [0 * identity], torch.ones(2, dtype=torch.float64))

    assert (result.observed, result.bound, result.looseness) == (0, 0, float("inf"))


def test_as_many_updates_as_weights_are_needed() -> None:
    with pytest.raises(ValueError, match="2 weights and 1 updates"):
        change_bound([torch.eye(2)] * 2, [torch.eye(2)], torch.ones(2))
