from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustness.recipes.embedding.balls import (
    Norm,
    project,
    random_in_ball,
    rescale,
    sizes,
    steepest,
    unit_direction,
)

NORMS = st.sampled_from(list(Norm))
POINTS = arrays(np.float32, (3, 2, 4), elements=st.floats(-1e3, 1e3, width=32)).map(torch.from_numpy)
RADII = arrays(np.float32, 3, elements=st.floats(0, 100, width=32)).map(torch.from_numpy)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@given(POINTS, RADII, NORMS)
def test_projection_lands_in_the_ball_and_is_idempotent(
    delta: torch.Tensor, radius: torch.Tensor, norm: Norm
) -> None:
    projected = project(delta, radius, norm)

    assert (sizes(projected, norm) <= radius * (1 + 1e-5)).all()
    torch.testing.assert_close(project(projected, radius, norm), projected, rtol=1e-5, atol=1e-30)


@given(POINTS, RADII, NORMS)
def test_what_is_inside_stays_as_it_is(delta: torch.Tensor, radius: torch.Tensor, norm: Norm) -> None:
    inside = sizes(delta, norm) <= radius

    assert torch.equal(project(delta, radius, norm)[inside], delta[inside])


@given(POINTS, RADII, NORMS, st.integers(0, 2**31))
def test_no_point_of_the_ball_is_nearer_than_the_projection(
    delta: torch.Tensor, radius: torch.Tensor, norm: Norm, seed: int
) -> None:
    everywhere = torch.ones(3, 2, dtype=torch.bool)
    other = random_in_ball(everywhere, 4, radius, norm, generators(seed, seed + 1, seed + 2))

    nearest = sizes(project(delta, radius, norm) - delta, Norm.L2)
    assert (nearest <= sizes(other - delta, Norm.L2) * (1 + 1e-5) + 1e-6).all()


@given(RADII, NORMS, st.integers(0, 2**31))
def test_random_points_lie_in_the_ball_and_in_the_content(radius: torch.Tensor, norm: Norm, seed: int) -> None:
    content = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])

    points = random_in_ball(content, 5, radius, norm, generators(seed, seed, seed))

    assert (sizes(points, norm) <= radius * (1 + 1e-5)).all()
    assert not points[~content].any()


@pytest.mark.parametrize("norm", Norm)
def test_random_points_fill_the_ball_uniformly(norm: Norm) -> None:
    count = 4000
    points = random_in_ball(
        torch.ones(count, 1, dtype=torch.bool), 2, torch.full((count,), 2.0), norm, generators(*range(count))
    )

    # A ball of half the radius has a quarter of the area.
    share = float((sizes(points, norm) <= 1).float().mean())
    assert share == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / count) ** 0.5)
    assert points.mean(dim=(0, 1)).abs().max() < 0.1


@pytest.mark.parametrize("norm", Norm)
def test_an_examples_draw_depends_on_its_generator_and_content_alone(norm: Norm) -> None:
    narrow = torch.tensor([[True, True]])
    wide = torch.tensor([[False, False, False], [True, True, False]])

    alone = random_in_ball(narrow, 3, torch.tensor([1.0]), norm, generators(7))
    beside = random_in_ball(wide, 3, torch.tensor([1.0, 1.0]), norm, generators(1, 7))

    assert torch.equal(beside[1, :2], alone[0])


@given(POINTS, NORMS)
def test_the_steepest_step_has_norm_one_and_gains_the_dual_norm(gradient: torch.Tensor, norm: Norm) -> None:
    step = steepest(gradient, norm)

    gain = (gradient.double() * step.double()).sum(dim=(1, 2))
    dual = torch.linalg.vector_norm(gradient.double().flatten(1), ord=norm.dual, dim=1)
    torch.testing.assert_close(gain, dual, rtol=1e-5, atol=1e-30)
    assert (sizes(step, norm) <= 1 + 1e-5).all()


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e30])
def test_directions_neither_underflow_nor_overflow(scale: float) -> None:
    vector = scale * torch.tensor([[[3.0, 4.0]]])

    torch.testing.assert_close(unit_direction(vector), torch.tensor([[[0.6, 0.8]]]))


def test_zero_has_no_direction() -> None:
    zero = torch.zeros(1, 2, 3)

    assert not unit_direction(zero).any()
    assert not rescale(zero, torch.tensor([1.0])).any()
    assert not steepest(zero, Norm.LINF).any()
