"""Every step against autograd, and its form against its second derivative wherever the form is said to hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from robustness.sensitivity.bounds.activations import ACTIVATIONS, Activation
from robustness.sensitivity.bounds.attention import AttentionAt
from robustness.sensitivity.bounds.forms import dominate_exactly, dominate_sampled
from robustness.sensitivity.bounds.gauges import ExactGauge, SampledGauge, inflation_for
from robustness.sensitivity.bounds.linearised import TakeToken, linearise, push_all
from robustness.sensitivity.bounds.region import REACH

LAYERS: dict[str, Callable[[Any], Any]] = {
    "attention": lambda w: w.attention(4, 2),
    "causal attention of shared keys": lambda w: w.attention(4, 2, causal=True, key_heads=1),
    "feed-forward": lambda w: w.plain(4),
    "gated": lambda w: w.gated(4),
    "layer norm": lambda w: w.norm(4, centred=True),
    "rms norm": lambda w: w.norm(4, centred=False),
}
CURVED = list(LAYERS)


@pytest.mark.parametrize("name", [*LAYERS, "linear", "token"])
def test_a_step_is_the_derivative_and_its_adjoint(weights_of: Callable[..., Any], name: str) -> None:
    weights = weights_of(0)
    more = {"linear": lambda w: w.linear(3, 4), "token": lambda _: TakeToken(-1)}
    layer = (LAYERS | more)[name](weights)
    x, t = weights.draw(4, 4), weights.draw(4, 4)

    step, out = layer.at(x)
    g = weights.draw(*out.shape)

    _, expected = torch.autograd.functional.jvp(lambda point: layer.at(point)[1], x, t)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(step.push(t), expected)
    torch.testing.assert_close((step.pull(g) * t).sum(), (g * expected).sum())


@pytest.mark.parametrize("name", CURVED)
def test_sources_are_the_adjoint_of_what_enters(weights_of: Callable[..., Any], name: str) -> None:
    weights = weights_of(1)
    step, out = LAYERS[name](weights).at(weights.draw(4, 4))
    form = step.dominate(ExactGauge(weights.draw(3, *out.shape)))
    t, entering = weights.draw(4, 4), {}

    step.push(t, entering)
    features = tuple(weights.draw(*shape) for shape in form.shapes)
    pulled = step.pull(torch.zeros_like(out), {step: form.half_adjoint(features)})

    seen = sum((a * b).sum() for a, b in zip(form.half(entering[step]), features, strict=True))
    torch.testing.assert_close((pulled * t).sum(), torch.as_tensor(seen))


def entering_of(step: Any, layer: Any, x: torch.Tensor, delta: torch.Tensor) -> dict[Any, Any]:
    """The true deviations that enter a step: of attention the scores', which are bilinear in the text."""
    entering: dict[Any, Any] = {}
    step.push(delta, entering)
    if isinstance(step, AttentionAt):
        q, k, linear, v = entering[step]
        entering[step] = (q, k, linear + centred(step, layer.scale * q @ k.mT), v)
    return entering


def centred(step: Any, scores: torch.Tensor) -> torch.Tensor:
    return scores - (step.shares * scores).sum(-1, keepdim=True)


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("name", CURVED)
def test_remainders_stay_below_half_the_form_out_to_its_reach(
    weights_of: Callable[..., Any], name: str, size: float
) -> None:
    """Ascent of |S R| / V over points where V is REACH^2; of attention S R holds what the scores' remainder does."""
    weights = weights_of(2, key_scale=2.0)
    layer = LAYERS[name](weights)
    x = weights.draw(4, 4)
    step, out = layer.at(x)
    rows = size * weights.draw(6, *out.shape)
    form = step.dominate(ExactGauge(rows))

    def ratio(delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        entering = entering_of(step, layer, x, delta)[step]
        value = sum(each.square().sum() for each in form.half(entering))
        remainder = layer.at(x + delta)[1] - out - step.push(delta)
        felt = (rows * remainder).flatten(1).sum(dim=1)
        if isinstance(step, AttentionAt):  # S of the scores' map: what comes out, and its own weight of the scores
            own = form.score.sqrt() * centred(step, layer.scale * entering[0] @ entering[1].mT)
            felt = torch.cat([felt, own.flatten()])
        return felt.norm() / value, value

    worst = 0.0
    for _ in range(6):
        direction = weights.draw(4, 4)
        for _ in range(15):
            low, high = 0.0, 1e3
            for _ in range(50):  # the form grows along a ray; at its reach
                middle = (low + high) / 2
                low, high = (middle, high) if float(ratio(middle * direction)[1]) <= REACH**2 else (low, middle)
            moved = (low * direction).requires_grad_()
            found = ratio(moved)[0]
            (slope,) = torch.autograd.grad(found, moved)
            worst = max(worst, float(found.detach()))
            direction = moved.detach() + 0.3 * low * direction.norm() * slope / slope.norm().clamp_min(1e-300)
            direction = direction / direction.norm()

    assert 1e-4 < worst <= 0.5 * (1 + 1e-9)


@pytest.mark.parametrize("name", CURVED)
def test_a_form_is_at_most_twice_the_second_derivative_at_the_point(
    weights_of: Callable[..., Any], name: str
) -> None:
    """One row that feels a lot, so that no floor of weights counts: ascent of |S D^2 f[t, t]| / V(t)."""
    weights = weights_of(5)
    layer = LAYERS[name](weights)
    x = weights.draw(4, 4)
    step, out = layer.at(x)
    row = 1e6 * weights.draw(1, *out.shape)
    form = step.dominate(ExactGauge(row))
    worst = 0.0

    for _ in range(8):
        t = weights.draw(4, 4)
        for _ in range(40):
            moved = t.clone().requires_grad_()
            line = torch.zeros((), dtype=torch.float64, requires_grad=True)
            (first,) = torch.autograd.grad((row * layer.at(x + line * moved)[1]).sum(), line, create_graph=True)
            (second,) = torch.autograd.grad(first, line, create_graph=True)
            entering: dict[Any, Any] = {}
            step.push(moved, entering)
            ratio = second.abs() / sum(each.square().sum() for each in form.half(entering[step]))
            (slope,) = torch.autograd.grad(ratio, moved)
            worst = max(worst, float(ratio.detach()))
            t = t + 0.1 * t.norm() * slope / slope.norm().clamp_min(1e-300)
            t = t / t.norm()

    assert 0.5 < worst <= 1 + 1e-9


def test_sampled_norms_are_at_least_the_true_ones_and_the_stacked_norm_too(weights_of: Callable[..., Any]) -> None:
    weights = weights_of(3)
    layers = tuple(LAYERS[name](weights) for name in ("layer norm", "attention", "feed-forward", "layer norm"))
    steps, _ = linearise(layers, weights.draw(4, 4))
    head, content = weights.draw(2, 4, 4), torch.ones(4, 4, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)

    found = dominate_sampled(steps, head, content, samples=64, alpha=0.01, generator=generator)

    columns = []
    for unit in torch.eye(16, dtype=torch.float64).reshape(16, 4, 4):
        entering: dict[Any, Any] = {}
        push_all(steps, unit, entering)
        halves = [part for step, form in found.forms.items() for part in form.half(entering[step])]
        columns.append(torch.cat([part.flatten() for part in halves]))
    true = float(torch.linalg.matrix_norm(torch.stack(columns), 2))
    assert true <= found.stacked_norm <= 1.5 * true
    assert found.stacked_norm > dominate_exactly(steps, head, content).stacked_norm


def test_the_exact_stacked_norm_is_that_of_the_map_with_the_head(weights_of: Callable[..., Any]) -> None:
    weights = weights_of(4)
    steps, _ = linearise((weights.norm(4, centred=True), weights.plain(4)), weights.draw(4, 4))
    head, content = 1e-9 * weights.draw(2, 4, 4), torch.ones(4, 4, dtype=torch.float64)

    found = dominate_exactly(steps, head, content)

    columns = []
    for unit in torch.eye(16, dtype=torch.float64).reshape(16, 4, 4):
        entering: dict[Any, Any] = {}
        push_all(steps, unit, entering)
        halves = [part for step, form in found.forms.items() for part in form.half(entering[step])]
        columns.append(torch.cat([part.flatten() for part in halves]))
    true = float(torch.linalg.matrix_norm(torch.stack(columns), 2))
    assert found.stacked_norm == pytest.approx(true, rel=1e-6)


def test_an_inflated_mean_is_too_small_less_often_than_stated_even_where_weights_answer_to_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    n, draws, alpha = 4, 20_000, 0.05
    inflation = inflation_for(n, 1, alpha)

    first = rng.normal(size=(draws, n))
    small = (first**2).mean(axis=1) < 0.2  # an adversary adds nothing where the first draw is already small
    weight = np.where(small, 0.0, 3.0)[:, None]
    rows = first + weight * rng.normal(size=(draws, n))
    truth = 1 + weight[:, 0] ** 2

    plain = np.mean((rows**2).mean(axis=1) < truth)
    failures = np.mean(inflation * (rows**2).mean(axis=1) < truth)
    assert failures <= alpha < plain


def test_a_gram_of_samples_dominates_the_true_one() -> None:
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    vectors = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    rows = torch.randn(200, 5, generator=generator, dtype=torch.float64) @ s
    gauge = SampledGauge(rows[:, None], 0, inflation_for(200, 100, 1e-3))

    found = gauge.gram((rows @ vectors.mT)[:, None], vectors, gauge.largest(rows[:, None]))[0]

    true = vectors @ s.T @ s @ vectors.T
    assert float(torch.linalg.eigvalsh(found - true)[0]) >= 0


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=lambda each: each.name)
def test_derivatives_of_activations_and_their_suprema(activation: Activation) -> None:
    x = torch.linspace(-12, 12, 240_001, dtype=torch.float64, requires_grad=True)
    step = 24 / 240_000

    (first,) = torch.autograd.grad(activation.value(x).sum(), x)
    (second,) = torch.autograd.grad(activation.first(x).sum(), x)
    (third,) = torch.autograd.grad(activation.second(x).sum(), x)

    torch.testing.assert_close(activation.first(x), first, rtol=0, atol=1e-12)
    torch.testing.assert_close(activation.second(x), second, rtol=0, atol=1e-12)
    assert float(first.abs().max()) + step**2 <= activation.first_max <= float(first.abs().max()) + 1e-3
    assert float(second.abs().max()) + step**2 <= activation.second_max <= float(second.abs().max()) + 1e-3
    assert float(third.abs().max()) + 10 * step**2 <= activation.third_max <= float(third.abs().max()) + 1e-3
