"""Certificates are held against the smallest margins and largest slopes that ascent finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.func import grad, vmap

from robustness.sensitivity.bounds.certificate import Certificate, Sampling, certify

CASES = [
    (kind, width, blocks, planted)
    for kind in ("encoder", "decoder")
    for planted in ("random", "sharp", "large", "flat")
    for width, blocks in ((4, 1), (8, 1), (8, 2))
]


def points(case: Any, radius: float, count: int, *, slopes: bool) -> Iterator[torch.Tensor]:
    """Points of the ball, shape (starts, tokens, dim), on ascents of what is bounded from random points."""
    generator = torch.Generator().manual_seed(5)
    steps = 20
    climb = vmap(grad(lambda delta: grad(case.margin)(delta).square().sum() if slopes else -case.margin(delta)))
    delta = torch.randn(count // steps, *case.x.shape, generator=generator, dtype=torch.float64)
    delta = onto_sphere(delta * case.content[:, None], radius)
    for _ in range(steps):
        yield delta
        moved = delta + onto_sphere(climb(delta), radius / 2)
        delta = torch.where(lengths(moved) > radius, onto_sphere(moved, radius), moved)


def lengths(delta: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(delta, dim=(1, 2), keepdim=True)


def onto_sphere(delta: torch.Tensor, radius: float) -> torch.Tensor:
    return delta * (radius / lengths(delta).clamp_min(1e-300))


def check(case: Any, certificate: Certificate, count: int) -> None:
    """Margins and slopes within the horizon never break their bounds."""
    assert certificate.horizon > 0
    for share in (1.0, 0.3):
        distance = share * certificate.horizon * (1 - 1e-5)
        least, steepest = certificate.least_margin(distance), certificate.lipschitz(distance)
        assert steepest is not None
        for at in points(case, distance, count // 4, slopes=False):
            assert float(vmap(case.margin)(at).min()) >= least
        for at in points(case, distance, count // 4, slopes=True):
            assert float(lengths(vmap(grad(case.margin))(at)).max()) <= steepest


@pytest.mark.parametrize(("kind", "width", "blocks", "planted"), CASES)
def test_no_ascent_breaks_a_certificate(
    case_of: Callable[..., Any], kind: str, width: int, blocks: int, planted: str
) -> None:
    case = case_of(kind, width, blocks, planted, seed=1)

    certificate = certify(case.layers, case.x, case.content, case.label)

    check(case, certificate, 200)
    assert 0 < certificate.radius() <= certificate.margins[0] / (certificate.slopes[0] / (1 + 2e-6))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("planted", ["random", "sharp"])
def test_no_ascent_breaks_a_sampled_certificate_which_is_no_tighter_than_a_few_times_the_exact_one(
    case_of: Callable[..., Any], kind: str, planted: str
) -> None:
    case = case_of(kind, 8, 2, planted, seed=2)
    sampling = Sampling(128, 1e-3, torch.Generator().manual_seed(0))

    certificate = certify(case.layers, case.x, case.content, case.label, sampling)

    check(case, certificate, 200)
    exact = certify(case.layers, case.x, case.content, case.label)
    assert exact.stacked_norm < certificate.stacked_norm < 10 * exact.stacked_norm


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "width", "blocks", "planted"), CASES)
def test_ten_thousand_points_break_no_certificate(
    case_of: Callable[..., Any], kind: str, width: int, blocks: int, planted: str, seed: int
) -> None:
    case = case_of(kind, width, blocks, planted, seed=10 + seed)

    check(case, certify(case.layers, case.x, case.content, case.label), 10_000)


def test_a_certificate_says_more_than_a_thousandth_of_what_first_order_suggests(case_of: Callable[..., Any]) -> None:
    case = case_of("encoder", 8, 1, "random", seed=1)

    certificate = certify(case.layers, case.x, case.content, case.label)

    assert certificate.radius() > 1e-3 * certificate.margins[0] / certificate.slopes[0]


def test_a_wrong_answer_has_radius_zero_and_a_slope_all_the_same(case_of: Callable[..., Any]) -> None:
    case = case_of("encoder", 4, 1, "random", seed=1)

    certificate = certify(case.layers, case.x, case.content, 1 - case.label)

    assert certificate.radius() == 0
    assert certificate.lipschitz(certificate.horizon / 2) is not None


def test_nothing_is_said_beyond_the_horizon(case_of: Callable[..., Any]) -> None:
    case = case_of("decoder", 4, 1, "random", seed=1)

    certificate = certify(case.layers, case.x, case.content, case.label)

    assert certificate.lipschitz(1.01 * certificate.horizon) is None
    assert certificate.radius() < certificate.horizon


def test_a_planted_answer_that_changes_nearby_is_not_certified_past_the_change(case_of: Callable[..., Any]) -> None:
    case = case_of("encoder", 8, 1, "flat", seed=4)  # of almost no variance: a small change turns everything
    certificate = certify(case.layers, case.x, case.content, case.label)
    changed = 1.0

    for delta in torch.cat(list(points(case, 0.5, 400, slopes=False))):
        low, high = 0.0, 1.0
        if float(case.margin(delta)) < 0:
            for _ in range(30):
                middle = (low + high) / 2
                low, high = (middle, high) if float(case.margin(middle * delta)) > 0 else (low, middle)
            changed = min(changed, high * float(delta.norm()))

    assert certificate.radius() < changed < 0.5


def test_multiplied_logits_leave_the_radius_and_multiply_the_slope(case_of: Callable[..., Any]) -> None:
    case = case_of("decoder", 8, 1, "random", seed=3)
    last = case.layers[-1]
    louder = (*case.layers[:-1], type(last)(10 * last.weight, 10 * last.bias))

    before = certify(case.layers, case.x, case.content, case.label)
    after = certify(louder, case.x, case.content, case.label)

    assert after.radius() == pytest.approx(before.radius(), rel=1e-6)
    distance = before.horizon / 2
    assert after.lipschitz(distance) == pytest.approx(10 * (before.lipschitz(distance) or 0), rel=1e-6)
