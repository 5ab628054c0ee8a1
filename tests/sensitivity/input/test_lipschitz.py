from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from robustness.errors import ProbeError
from robustness.sensitivity.input.jacobian import logit_jacobians, spectral_norms
from robustness.sensitivity.input.lipschitz import LipschitzLower, lipschitz_lower
from robustness.sensitivity.measurement import Kind
from robustness.sensitivity.parameter.rounding import WeightRounding, rounding_error


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in range(count)]


def test_a_linear_models_constant_is_its_largest_singular_value(as_batch: Any, linear: Any, points: Any) -> None:
    function, weights = linear

    found = lipschitz_lower(as_batch(function, points[:5]), 0.5, 5, 2, generators(5)).values

    assert found.numpy() == pytest.approx(np.full(5, np.linalg.norm(weights.numpy(), ord=2)), rel=1e-6)


def test_a_quadratic_forms_constant_over_a_ball_is_approached_from_below(as_batch: Any, points: Any) -> None:
    """f = |x|^2 / 2 has the constant |x| + r over B(x, r)."""
    batch = as_batch(lambda p: torch.stack([p.flatten(1).square().sum(1) / 2, 0 * p.flatten(1)[:, 0]], 1), points[:6])
    radius = 0.5

    found = lipschitz_lower(batch, radius, 20, 1, generators(6)).values

    exact = points[:6].flatten(1).norm(dim=1) + radius
    assert (found <= exact + 1e-9).all()
    assert (found >= 0.99 * exact).all()


def test_on_a_network_of_two_inputs_it_lies_between_the_centre_and_a_dense_grid(as_batch: Any) -> None:
    rng = np.random.default_rng(7)
    first, bias = torch.from_numpy(rng.normal(size=(2, 24))), torch.from_numpy(rng.normal(size=24))
    second = torch.from_numpy(rng.normal(size=(24, 2)))
    function = lambda p: torch.relu(p.flatten(1) @ first + bias) @ second  # noqa: E731
    centres = torch.from_numpy(rng.normal(size=(5, 1, 2)))
    radius = 0.7

    found = lipschitz_lower(as_batch(function, centres), radius, 20, 3, generators(5)).values

    side = torch.linspace(-radius, radius, 400, dtype=torch.float64)
    disc = torch.cartesian_prod(side, side)
    disc = disc[disc.norm(dim=1) <= radius]
    for row in range(5):
        jacobian, _ = logit_jacobians(as_batch(function, centres[row] + disc[:, None, :]))
        truth = float(spectral_norms(jacobian).max())
        assert found[row] <= truth + 1e-6
        assert found[row] >= float(spectral_norms(logit_jacobians(as_batch(function, centres))[0])[row])


def test_a_radius_of_zero_is_refused(as_batch: Any, linear: Any, points: Any) -> None:
    with pytest.raises(ProbeError, match="more than 0"):
        lipschitz_lower(as_batch(linear[0], points[:1]), 0.0, 1, 1, generators(1))


def test_the_probe_labels_a_lower_bound_with_its_radius(tiny: Any, subject_of: Any) -> None:
    readings = list(LipschitzLower(0.2, 40, 1).measure(subject_of(tiny.peft, count=3)))

    rows = [(r.measurement.kind, r.measurement.radius, str(r.measurement.status)) for r in readings if r.example]
    checks = {r.measurement.quantity.name for r in readings if r.example is None}
    names = {r.measurement.quantity.name.removeprefix("local-lipschitz-lower") for r in readings if r.example}
    assert rows == [(Kind.LOWER, 0.2, "ok")] * 9
    assert names == {"", "-per-token-norm", "-per-neighbour"}
    assert checks == {"check-gain-of-twice-the-steps", "check-worst-gain-of-twice-the-steps"}


def test_a_search_of_few_steps_is_not_converged_and_its_bound_still_holds(tiny: Any, subject_of: Any) -> None:
    def values(steps: int) -> dict[str, Any]:
        readings = LipschitzLower(0.5, steps, 1).measure(subject_of(tiny.peft, count=4))
        return {
            r.example.id: r.measurement
            for r in readings
            if r.example and r.measurement.quantity.name == "local-lipschitz-lower"
        }

    early, late = values(1), values(60)

    assert {str(each.status) for each in early.values()} == {"not-converged"}
    assert "twice the steps gain" in next(iter(early.values())).reason
    assert all(early[key].value <= late[key].value * (1 + 1e-6) for key in early)


def test_the_jacobian_norm_itself_ascends_where_no_secant_from_the_centre_comes(as_batch: Any) -> None:
    """f = tanh(9 (x - 1)), whose slope is 9 at 1, on the sphere: secants from 0 stay below (1 + tanh 9) / 1."""
    function = lambda p: torch.stack([torch.tanh(9 * (p.flatten(1)[:, 0] - 1)), 0 * p.flatten(1)[:, 0]], 1)  # noqa: E731
    batch = as_batch(function, torch.full((1, 1, 3), 0.1, dtype=torch.float64))

    found = lipschitz_lower(batch, 1.0, 30, 1, generators(1)).values

    assert found.item() == pytest.approx(9, rel=1e-4)


def test_company_changes_no_value(tiny: Any, subject_of: Any, examples: Any, by_example: Any) -> None:
    probe, name = LipschitzLower(0.2, 20, 2), "local-lipschitz-lower"

    alone = {
        example.id: by_example(probe.measure(subject_of(tiny.peft, chosen=[example])), name)[example.id]
        for example in examples[:4]
    }
    together = by_example(probe.measure(subject_of(tiny.peft, count=4)), name)

    assert together == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_moves_no_weight_by_more_than_half_a_step(bits: int) -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 9)))

    error = rounding_error(matrix, bits)

    step = matrix.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert (error.abs() <= step / 2 + 1e-12).all()
    levels = (matrix + error) / step
    assert torch.allclose(levels, levels.round(), atol=1e-9) and levels.abs().max() <= 2 ** (bits - 1) - 1 + 1e-9


def test_fewer_bits_move_the_weights_more_and_they_come_back(tiny: Any, victims: Any, subject_of: Any) -> None:
    before = {name: value.clone() for name, value in victims(tiny.peft).model.named_parameters()}

    readings = list(WeightRounding((8, 2)).measure(subject_of(tiny.peft, count=6)))

    moved = {r.measurement.scope: r.measurement.value for r in readings if r.example is None}
    flipped = [r for r in readings if r.example is not None]
    assert 0 < moved["int8"] < 0.05 < moved["int2"]
    assert len(flipped) == 12 and {r.measurement.value for r in flipped} <= {0.0, 1.0}
    assert all(torch.equal(value, before[name]) for name, value in victims(tiny.peft).model.named_parameters())


def test_an_ascent_begins_where_the_margin_is_steepest_on_the_way_to_another_answer(as_batch: Any) -> None:
    """The slope is 1.7 at the centre, where it peaks, and 5.2 near the boundary: from the centre nothing rises."""

    def bump(places: torch.Tensor, height: float) -> torch.Tensor:  # whose slope is height exp(-100 places^2)
        return height * 0.1 * math.sqrt(math.pi) / 2 * torch.erf(10 * places)

    def function(points: torch.Tensor) -> torch.Tensor:
        place = points.flatten(1)[:, 0]
        margin = 0.3 - 0.2 * place - bump(place, 1.5) - bump(place - 0.8, 5.0)
        return torch.stack([margin, 0 * margin], dim=1)

    batch = as_batch(function, torch.zeros(1, 1, 3, dtype=torch.float64))

    found = lipschitz_lower(batch, 1.0, 30, 1, generators(1)).values

    assert found.item() == pytest.approx(5.2, rel=1e-4)
