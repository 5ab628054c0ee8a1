from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustness.sensitivity.attention import twice_differentiable
from robustness.sensitivity.measurement import Kind, MeasurementStatus
from robustness.sensitivity.parameter import curvature
from robustness.sensitivity.parameter.curvature import (
    Curvature,
    Restricted,
    extreme_eigenvalues,
    hessian_product,
    hutchinson,
    interval_of_mean,
)
from robustness.sensitivity.parameter.reachability import find_tangents
from robustness.sensitivity.parameter.weights import WeightSpace, block_parameters
from robustness.sensitivity.probe import Unsupported
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen


@pytest.fixture
def logistic() -> tuple[WeightSpace, EmbeddedBatch, np.ndarray]:
    """Two labels, z = (0, w x): its Hessian is X^T diag(p (1 - p)) X / n."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(20, 1, 6)))
    weight = torch.nn.Parameter(torch.from_numpy(rng.normal(size=6)))

    def forward(points: torch.Tensor, _: Any) -> torch.Tensor:
        score = points.flatten(1) @ weight
        return torch.stack([torch.zeros_like(score), score], dim=1)

    labels = torch.from_numpy(rng.integers(0, 2, size=20))
    batch = EmbeddedBatch(x, torch.ones(20, 1, dtype=torch.bool), labels, 1.0, {}, forward)
    p = 1 / (1 + np.exp(-(x[:, 0].numpy() @ weight.detach().numpy())))
    exact = x[:, 0].numpy().T @ np.diag(p * (1 - p)) @ x[:, 0].numpy() / 20
    return WeightSpace({"w": weight}), batch, exact


def multiply(product: curvature.Product, vector: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {name: torch.zeros_like(value) for name, value in vector.items()}
    product(vector, found)
    return found


def test_the_product_is_the_closed_form_of_logistic_regression(logistic: Any) -> None:
    weights, batch, exact = logistic
    vector = np.random.default_rng(1).normal(size=6)

    with weights:
        whole = multiply(hessian_product(weights, [batch]), {"w": torch.from_numpy(vector)})["w"].numpy()
        halves = [batch.select(torch.arange(7)), batch.select(torch.arange(7, 20))]
        summed = multiply(hessian_product(weights, halves), {"w": torch.from_numpy(vector)})["w"].numpy()

    assert whole == pytest.approx(exact @ vector, rel=1e-9)
    assert summed == pytest.approx(whole, rel=1e-9)


def test_lanczos_ends_at_the_extreme_eigenvalues_and_never_beyond(logistic: Any) -> None:
    weights, batch, exact = logistic
    values = np.linalg.eigvalsh(exact)

    with weights:
        hessian = Restricted(hessian_product(weights, [batch]), weights.parameters)
        found = [extreme_eigenvalues(hessian, steps) for steps in (1, 2, 3, 6)]

    highs = [each.high for each in found]
    assert highs == sorted(highs) and all(high <= values[-1] + 1e-12 for high in highs)
    assert all(each.low >= values[0] - 1e-12 for each in found)
    assert (found[-1].low, found[-1].high) == pytest.approx((values[0], values[-1]), rel=1e-6)


def test_a_residual_is_the_ritz_pairs_own_and_an_eigenvalue_lies_within_it(logistic: Any) -> None:
    weights, batch, exact = logistic
    steps = 3
    with weights:
        hessian = Restricted(hessian_product(weights, [batch]), weights.parameters)
        found = extreme_eigenvalues(hessian, steps)
        start = multiply(hessian.product, hessian.signs(seed=0))["w"].numpy()

    krylov = np.stack([np.linalg.matrix_power(exact, power) @ start for power in range(steps)], axis=1)
    basis = np.linalg.qr(krylov)[0]
    ritz, inner = np.linalg.eigh(basis.T @ exact @ basis)
    vectors = basis @ inner
    residuals = np.linalg.norm(exact @ vectors - vectors * ritz, axis=0)
    assert (found.low, found.high) == pytest.approx((ritz[0], ritz[-1]), rel=1e-6)
    assert (found.low_residual, found.high_residual) == pytest.approx((residuals[0], residuals[-1]), rel=1e-6)
    for value, error in ((found.low, found.low_residual), (found.high, found.high_residual)):
        assert np.abs(np.linalg.eigvalsh(exact) - value).min() <= error + 1e-12


def test_a_projection_interlaces_and_hutchinsons_mean_is_the_trace(logistic: Any) -> None:
    weights, batch, exact = logistic
    mask = torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64)

    with weights:
        whole = Restricted(hessian_product(weights, [batch]), weights.parameters)
        inside = replace(whole, project=lambda change: change["w"].mul_(mask))
        high = extreme_eigenvalues(inside, 6).high
        draws, within = (np.array(hutchinson(each, 400)) for each in (whole, inside))

    assert high == pytest.approx(np.linalg.eigvalsh(exact[:3, :3])[-1], rel=1e-6)
    assert high <= np.linalg.eigvalsh(exact)[-1]
    assert abs(draws.mean() - np.trace(exact)) < 4 * draws.std() / 20
    assert abs(within.mean() - np.trace(exact[:3, :3])) < 4 * within.std() / 20


def test_a_models_product_is_symmetric_and_its_scores_stay(tiny: Any, victims: Any, examples: Any) -> None:
    """The tiny model attends by the fused kernel, which has no second derivative: the plain one takes its place."""
    victim = victims(tiny.peft)
    rng = torch.Generator().manual_seed(0)
    with frozen(victim):
        batch = victim.embed(examples[:4])
        before = batch.logits(batch.embeddings)
        with twice_differentiable(victim, batch), WeightSpace(block_parameters(victim.model)) as weights:
            during = batch.logits(batch.embeddings).detach()
            u, v = (
                {name: torch.randn(value.shape, generator=rng) for name, value in weights.parameters.items()}
                for _ in range(2)
            )
            product = hessian_product(weights, [batch])
            left, right = curvature._dot(multiply(product, v), u), curvature._dot(multiply(product, u), v)

    assert torch.allclose(before, during, atol=1e-5)
    assert left == pytest.approx(right, rel=1e-3)


def test_a_model_that_answers_otherwise_under_the_other_kernel_is_unsupported(
    as_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([0.0, 1.0])
    batch = as_batch(lambda p: torch.ones(len(p), 2), torch.ones(1, 1, 2))
    shifting = EmbeddedBatch(
        batch.embeddings, batch.content, batch.labels, 1.0, batch.inputs, lambda e, _: torch.ones(1, 2) + next(calls)
    )

    with (
        pytest.raises(Unsupported, match="attn_implementation='eager'"),
        twice_differentiable(
            SimpleNamespace(model=object()),  # type: ignore[arg-type]
            shifting,
        ),
    ):
        pass


def test_few_draws_have_students_interval() -> None:
    quantile = 4.302652729911275  # of Student's t, .975, 2 degrees of freedom

    low, high = interval_of_mean(np.array([1.0, 2.0, 3.0]))

    assert (low, high) == pytest.approx((2 - quantile / 3**0.5, 2 + quantile / 3**0.5), rel=1e-8)
    assert interval_of_mean(np.array([1.0])) == (None, None)


def test_a_full_partner_has_no_tangent_and_the_base_is_no_full_partner(tiny: Any, subject_of: Any) -> None:
    arms = {each: read_checkpoint(each.name, str(each), str(tiny.base)) for each in (tiny.base, tiny.full, tiny.peft)}
    subject = replace(subject_of(tiny.full), partners=[arms[tiny.base], arms[tiny.full], arms[tiny.peft]])
    parameters = block_parameters(subject.victim.model)

    found = find_tangents(subject, parameters)

    assert [scope for scope, _ in found] == [f"tangent of {tiny.peft.name}"]
    assert subject.full_partner is arms[tiny.full]
    with pytest.raises(Unsupported, match="without an adapter as partner"):
        find_tangents(replace(subject, partners=[arms[tiny.base]]), parameters)


def test_the_probe_labels_its_bounds_in_both_spaces(tiny: Any, subject_of: Any) -> None:
    rows = [r.measurement for r in Curvature(6, 3).measure(subject_of(tiny.peft, count=4))]

    largest = {row.scope: row for row in rows if row.quantity.name == "largest-eigenvalue"}
    inside = next(scope for scope in largest if scope.startswith("tangent of"))
    assert {row.kind for row in largest.values()} == {Kind.LOWER}
    assert 0 < largest[inside].value < largest["blocks"].value * 1.01
    residuals = {row.scope: row.value for row in rows if row.quantity.name == "largest-eigenvalue-residual"}
    assert set(residuals) == set(largest) and all(value >= 0 for value in residuals.values())
    assert len(rows) == 10


def test_an_eigenvalue_with_a_large_residual_is_not_converged(tiny: Any, subject_of: Any) -> None:
    rows = [r.measurement for r in Curvature(1, 1).measure(subject_of(tiny.peft, count=4))]

    largest = next(row for row in rows if row.quantity.name == "largest-eigenvalue")
    assert largest.status is MeasurementStatus.NOT_CONVERGED and "residual" in largest.reason
