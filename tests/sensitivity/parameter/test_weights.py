from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from robustness.errors import ProbeError
from robustness.sensitivity.measurement import Kind
from robustness.sensitivity.parameter.parameter_margin import ParameterMargin, smallest_change
from robustness.sensitivity.parameter.sharpness import Ascent, Sharpness, WeightNorm
from robustness.sensitivity.parameter.weights import Delta, WeightSpace
from robustness.victims.heads.labels import Victim


class Quadratic:
    """L = g.theta + theta.H theta / 2 over one vector of weights, at a given origin."""

    def __init__(
        self, hessian: np.ndarray, gradient: np.ndarray | None = None, origin: np.ndarray | None = None
    ) -> None:
        size = len(hessian)
        self.hessian = torch.from_numpy(hessian)
        self.linear = torch.zeros(size, dtype=torch.float64) if gradient is None else torch.from_numpy(gradient)
        start = np.zeros(size) if origin is None else origin
        self.theta = torch.nn.Parameter(torch.from_numpy(start.copy()))
        self.weights = WeightSpace({"m.w": self.theta})

    def add_slope(self) -> float:
        return float(
            self.weights.add_slope(lambda: self.linear @ self.theta + self.theta @ self.hessian @ self.theta / 2)
        )


@pytest.fixture
def hessian() -> np.ndarray:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return basis @ np.diag([5.0, 2.0, 1.5, 1.0, 0.5, 0.2, 0.1, 0.0]) @ basis.T


def search(problem: Quadratic, norm: WeightNorm, radius: float, steps: int = 60, project: Any = None) -> float:
    with problem.weights:
        return Ascent(problem.weights, problem, norm, radius, steps).rise(project).found


def test_a_quadratics_sharpness_is_half_its_largest_eigenvalue_times_the_squared_radius(hessian: np.ndarray) -> None:
    assert search(Quadratic(hessian), WeightNorm.FROBENIUS, 0.7) == pytest.approx(0.5 * 0.49 * 5.0, rel=1e-6)


def test_with_a_gradient_it_is_the_trust_regions_closed_form(hessian: np.ndarray) -> None:
    """max g.d + d.H d / 2 on |d| = rho: d = (mu - H)^-1 g with mu > lambda_max such that |d| = rho."""
    gradient, radius = np.random.default_rng(1).normal(size=8), 0.7

    def excess(mu: float) -> float:
        return float(np.linalg.norm(np.linalg.solve(mu * np.eye(8) - hessian, gradient)) - radius)

    mu = brentq(excess, 5.0 + 1e-9, 100.0)
    best = np.linalg.solve(mu * np.eye(8) - hessian, gradient)
    exact = gradient @ best + best @ hessian @ best / 2

    assert search(Quadratic(hessian, gradient), WeightNorm.FROBENIUS, radius) == pytest.approx(exact, rel=1e-6)


def test_in_a_coordinate_subspace_it_is_the_sub_matrixs_and_never_more_than_in_the_whole(hessian: np.ndarray) -> None:
    mask = torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0], dtype=torch.float64)

    def project(delta: Delta) -> None:
        delta["m.w"].mul_(mask)

    inside = search(Quadratic(hessian), WeightNorm.FROBENIUS, 0.7, steps=120, project=project)

    exact = 0.5 * 0.49 * np.linalg.eigvalsh(hessian[:3, :3])[-1]
    assert inside == pytest.approx(exact, rel=1e-4)
    assert inside <= search(Quadratic(hessian), WeightNorm.FROBENIUS, 0.7) + 1e-12


def test_the_relative_norm_is_in_units_of_the_weights(hessian: np.ndarray) -> None:
    origin = np.full(8, 3.0)
    problem = Quadratic(hessian, gradient=-hessian @ origin, origin=origin)  # stationary at the origin

    found = search(problem, WeightNorm.MODULE_RELATIVE, 0.1)

    assert found == pytest.approx(0.5 * (0.1 * np.linalg.norm(origin)) ** 2 * 5.0, rel=1e-6)


def test_the_adaptive_norm_ignores_a_rescaling_of_single_weights(hessian: np.ndarray) -> None:
    """theta = D theta' with D diagonal: the same function, and the same sharpness."""
    rng = np.random.default_rng(2)
    origin, scale, gradient = rng.normal(size=8) + 3, rng.uniform(0.2, 5, size=8), rng.normal(size=8)
    plain = Quadratic(hessian, gradient, origin)
    rescaled = Quadratic(np.diag(scale) @ hessian @ np.diag(scale), scale * gradient, origin / scale)

    first, second = (search(each, WeightNorm.ADAPTIVE, 0.3) for each in (plain, rescaled))

    assert first == pytest.approx(second, rel=1e-6)
    best = search(Quadratic(np.diag(origin) @ hessian @ np.diag(origin)), WeightNorm.FROBENIUS, 0.3)
    stationary = Quadratic(hessian, -hessian @ origin, origin)
    assert search(stationary, WeightNorm.ADAPTIVE, 0.3) == pytest.approx(best, rel=1e-4)


def test_a_radius_of_zero_is_refused(hessian: np.ndarray) -> None:
    with pytest.raises(ProbeError, match="more than 0"):
        search(Quadratic(hessian), WeightNorm.FROBENIUS, 0.0)


SHARPNESS = Sharpness(frobenius=0.3, module_relative=0.02, adaptive=2.0, steps=4)


def test_an_ascent_that_twice_the_steps_take_farther_is_not_converged(tiny: Any, subject_of: Any) -> None:
    def rows(steps: int) -> Any:
        probe = replace(SHARPNESS, frobenius=2.0, steps=steps)
        measured = [r.measurement for r in probe.measure(subject_of(tiny.peft, count=4))]
        return next(row for row in measured if (row.quantity.name, row.norm) == ("sharpness", "frobenius"))

    early, late = rows(1), rows(12)

    assert str(early.status) == "not-converged" and "twice the steps gain" in early.reason
    assert str(late.status) == "ok" and late.value >= early.value


def test_what_twice_the_steps_find_is_what_a_search_of_twice_the_steps_finds(hessian: np.ndarray) -> None:
    problem = Quadratic(hessian, np.random.default_rng(1).normal(size=8))

    with problem.weights:
        once, twice = (Ascent(problem.weights, problem, WeightNorm.FROBENIUS, 0.7, steps).rise() for steps in (3, 6))

    assert once.after_twice == twice.found > once.found


def test_in_three_norms_the_tangents_sharpness_is_at_most_the_whole_spaces(tiny: Any, subject_of: Any) -> None:
    everywhere = replace(SHARPNESS, adaptive_in_tangent=True)
    measured = [r.measurement for r in everywhere.measure(subject_of(tiny.peft, count=4))]
    readings = [row for row in measured if not row.quantity.name.startswith("check-")]

    assert {row.kind for row in readings} == {Kind.LOWER}
    assert len(measured) == 3 * len(readings)  # the median and the worst gain of each
    for norm, radius in SHARPNESS.radii.items():
        found = {row.quantity.name: row for row in readings if row.norm == str(norm)}
        assert 0 < found["sharpness-in-tangent"].value <= found["sharpness"].value
        assert found["sharpness"].radius == radius
        assert found["sharpness-in-tangent"].scope.startswith("tangent of")


def test_in_the_adaptive_norm_the_tangent_is_searched_where_it_is_asked_for(tiny: Any, subject_of: Any) -> None:
    readings = [r.measurement for r in replace(SHARPNESS, steps=1).measure(subject_of(tiny.peft, count=2))]

    found = sorted((row.quantity.name, row.norm) for row in readings if row.kind is Kind.LOWER)
    assert found == [
        ("sharpness", "adaptive"),
        ("sharpness", "frobenius"),
        ("sharpness", "module-relative"),
        ("sharpness-in-tangent", "frobenius"),
        ("sharpness-in-tangent", "module-relative"),
    ]


def test_the_weights_come_back_to_the_last_bit(tiny: Any, victims: Any, subject_of: Any) -> None:
    before = {name: value.clone() for name, value in victims(tiny.peft).model.named_parameters()}

    list(replace(SHARPNESS, steps=2).measure(subject_of(tiny.peft, count=4)))
    list(ParameterMargin(3).measure(subject_of(tiny.peft, count=1)))

    assert all(torch.equal(value, before[name]) for name, value in victims(tiny.peft).model.named_parameters())


def test_a_linear_models_parameter_margin_is_its_margin_over_its_inputs_norm() -> None:
    rng = np.random.default_rng(5)
    x = torch.from_numpy(rng.normal(size=30))
    theta = torch.nn.Parameter(torch.from_numpy(rng.normal(size=30)))
    if float(theta.detach() @ x) < 0:
        x = -x
    exact = float(theta.detach() @ x) / float(x.norm())

    with WeightSpace({"w": theta}) as weights:
        found = smallest_change(weights, lambda: theta @ x, steps=40)

    assert found.first_order == pytest.approx(exact, rel=1e-6)
    assert exact <= found.distance <= exact * 1.01


def test_a_margin_that_falls_ever_faster_is_followed_inwards_as_far_as_its_boundary() -> None:
    """m = c - (exp(k u.theta) - 1), |u| = 1: the first-order radius is c / k, the distance log(1 + c) / k."""
    u = torch.from_numpy(np.random.default_rng(6).normal(size=20))
    u /= u.norm()
    theta = torch.nn.Parameter(torch.zeros(20, dtype=torch.float64))
    c, k = 200.0, 10.0

    with WeightSpace({"w": theta}) as weights:
        found = smallest_change(weights, lambda: c - (torch.exp(k * (u @ theta)) - 1), steps=24)

    assert found.first_order == pytest.approx(c / k)
    assert found.distance == pytest.approx(math.log(1 + c) / k, rel=1e-3)
    assert found.distance < 0.9**24 * found.first_order  # where shrinking by a tenth a step would have ended
    assert not found.is_at_floor


def test_a_search_that_still_halves_its_find_when_it_ends_says_so() -> None:
    theta = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    with WeightSpace({"w": theta}) as weights:
        found = smallest_change(weights, lambda: (50.0 - (torch.exp(200 * theta) - 1)).sum(), steps=4)

    assert found.distance >= found.first_order / 16
    assert found.is_at_floor


@pytest.mark.parametrize("seed", range(4))
def test_the_parameter_margin_of_a_network_is_the_one_that_sequential_quadratic_programming_finds(seed: int) -> None:
    """min |d| with m(theta + d) <= 0 by scipy's SLSQP in double precision, from several starts."""
    rng = np.random.default_rng(seed)
    x, second = torch.from_numpy(rng.normal(size=4)), torch.from_numpy(rng.normal(size=6))
    start = rng.normal(size=24)
    theta = torch.nn.Parameter(torch.from_numpy(start.copy()))

    def margin() -> torch.Tensor:
        return second @ torch.tanh(theta.view(6, 4) @ x) + 0.5

    sign = 1.0 if float(margin().detach()) > 0 else -1.0
    with WeightSpace({"w": theta}) as weights:
        found = smallest_change(weights, lambda: sign * margin(), steps=60)

    def constraint(d: np.ndarray) -> float:
        return -sign * float(second @ torch.tanh(torch.from_numpy(start + d).view(6, 4) @ x) + 0.5)

    best = min(
        float(np.linalg.norm(result.x))
        for result in (
            minimize(lambda d: d @ d, rng.normal(size=24), jac=lambda d: 2 * d, method="SLSQP",
                     constraints={"type": "ineq", "fun": constraint}, options={"maxiter": 300, "ftol": 1e-12})
            for _ in range(6)
        )
        if result.success and constraint(result.x) >= -1e-8
    )  # fmt: skip
    assert best * (1 - 1e-6) <= found.distance <= best * 1.01


def test_a_wrong_answer_is_no_change_away_and_a_flat_one_is_never_found() -> None:
    theta = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    with WeightSpace({"w": theta}) as weights:
        assert smallest_change(weights, lambda: -theta.sum(), steps=3).distance == 0
        assert math.isinf(smallest_change(weights, lambda: 1 + 0 * theta.sum(), steps=3).distance)


def test_parameter_margins_of_a_model_are_upper_bounds_and_free_of_the_logits_scale(
    tiny: Any, subject_of: Any, scaled: Victim, by_example: Any
) -> None:
    readings = list(ParameterMargin(15).measure(subject_of(tiny.peft, count=3)))
    ten = by_example(ParameterMargin(15).measure(subject_of(tiny.peft, count=3, victim=scaled)), "parameter-distance")

    once = by_example(readings, "parameter-distance")
    assert len(once) == 3 and all(value > 0 for value in once.values())
    assert ten == pytest.approx(once, rel=0.02)
    assert {str(r.measurement.kind) for r in readings} == {"upper", "estimate"}
