"""Probes of bounds from above on models of transformers, held against attacks and gradients in single precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.bounds.linearised import product
from robustness.sensitivity.bounds.reading import Reader
from robustness.sensitivity.input import certified, layer_product
from robustness.sensitivity.input.certified import LipschitzUpper
from robustness.sensitivity.input.distance import AdversarialDistance
from robustness.sensitivity.input.jacobian import MarginGradient
from robustness.sensitivity.input.layer_product import LayerProduct
from robustness.sensitivity.measurement import Bracket, Kind, Measurement, MeasurementStatus
from robustness.sensitivity.probe import Subject, Unsupported

KINDS = ("bert", "roberta", "llama")
QUICK = LipschitzUpper(radius=1e-6, samples=64, exact_examples=1, exact_tokens=32)


def numbers(readings: Any, quantity: str, kind: Kind | None = None) -> dict[str, Measurement]:
    return {
        reading.example.id: reading.measurement
        for reading in readings
        if reading.measurement.quantity.name == quantity
        and kind in (None, reading.measurement.kind)
        and reading.measurement.norm in (None, "l2")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_certified_radii_bracket_what_attacks_find(architecture: Callable[[str], Any], kind: str) -> None:
    world = architecture(kind)
    subject = world.subject(world.full)

    certified = list(QUICK.measure(subject))
    attacked = numbers(AdversarialDistance((Norm.L2,), 20, 1, 0, 1, 0, 1).measure(subject), "relative-distance")

    for kind_ in (Kind.CERT_PROB, Kind.CERT_DET):
        radii = numbers(certified, "certified-radius-local", kind_)
        assert len(radii) == (len(subject.examples) if kind_ is Kind.CERT_PROB else 1)
        for id_, radius in radii.items():
            assert (radius.value or 0) > 1e-9
            assert radius.alpha == (1e-3 if kind_ is Kind.CERT_PROB else None)
            bracket = Bracket(radius, attacked[id_])
            assert bracket.comparable


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_between_the_gradient_and_the_layer_product(architecture: Callable[[str], Any], kind: str) -> None:
    world = architecture(kind)
    subject = world.subject(world.full)

    certified = list(QUICK.measure(subject))
    uppers = numbers(certified, "lipschitz-upper", Kind.CERT_PROB)
    lowers = numbers(certified, "margin-lipschitz-lower")
    gradients = numbers(MarginGradient().measure(subject), "margin-gradient")
    products = numbers(LayerProduct().measure(subject), "layer-product")

    for example in subject.examples:
        below, above = lowers[example.id], uppers[example.id]
        assert (gradients[example.id].value or 0) <= (below.value or 0) * (1 + 1e-4)
        assert Bracket(below, above).comparable
        assert (above.status, products[example.id].kind) == (MeasurementStatus.OK, Kind.UPPER)
        assert (gradients[example.id].value or 0) <= (products[example.id].value or 0)


def test_a_wrong_answer_has_radius_zero_and_numbers_do_not_depend_on_company(
    architecture: Callable[[str], Any],
) -> None:
    world = architecture("bert")
    subject = world.subject(world.full)
    first = subject.examples[0]
    wrong = replace(first, id="wrong", label=1 - first.label)

    together = numbers(QUICK.measure(replace(subject, examples=[*subject.examples, wrong])), "certified-radius-local")
    alone = numbers(QUICK.measure(replace(subject, examples=[first])), "certified-radius-local", Kind.CERT_PROB)

    assert together["wrong"].value == 0
    again = numbers(QUICK.measure(subject), "certified-radius-local", Kind.CERT_PROB)
    assert again[first.id].value == alone[first.id].value


def test_beyond_the_horizon_the_slope_is_vacuous_and_still_a_bound(architecture: Callable[[str], Any]) -> None:
    world = architecture("bert")

    found = list(LipschitzUpper(radius=10.0, samples=16, exact_examples=0).measure(world.subject(world.full)))

    for id_, above in numbers(found, "lipschitz-upper").items():
        assert above.status is MeasurementStatus.VACUOUS
        assert "nothing is certified beyond" in above.reason
        assert (above.value or 0) > (numbers(found, "margin-lipschitz-lower")[id_].value or 0)


def test_a_long_text_is_not_certified_without_sampling(architecture: Callable[[str], Any]) -> None:
    world = architecture("bert")
    probe = LipschitzUpper(radius=1e-6, samples=16, exact_examples=2, exact_tokens=1)

    assert not numbers(probe.measure(world.subject(world.full)), "certified-radius-local", Kind.CERT_DET)


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("distance", [0.0, 0.05, 1.0])
def test_no_point_of_a_ball_has_a_jacobian_above_the_layer_product(
    architecture: Callable[[str], Any], kind: str, distance: float
) -> None:
    world = architecture(kind)
    victim = world.victim(world.full)
    text = Reader(victim).read(victim.embed(world.subject(world.full).examples[:1]))
    bound = product(text.layers, text.x, distance)
    generator = torch.Generator().manual_seed(0)

    for _ in range(20):
        delta = torch.randn(text.x.shape, generator=generator, dtype=torch.float64)
        point = text.x + delta * (distance / delta.norm())
        jacobian = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
            lambda x: _logits(text, x), point
        ).reshape(2, -1)
        assert float(torch.linalg.matrix_norm(jacobian, 2)) <= bound


def _logits(text: Any, x: torch.Tensor) -> torch.Tensor:
    for layer in text.layers:
        x = layer.at(x)[1]
    return x[0]


def test_layer_products_certify_less_than_the_second_order_bound(architecture: Callable[[str], Any]) -> None:
    world = architecture("bert")
    subject = world.subject(world.full)

    by_layers = numbers(LayerProduct().measure(subject), "layer-product-radius")
    certified = numbers(QUICK.measure(subject), "certified-radius-local", Kind.CERT_PROB)

    for example in subject.examples:
        assert 0 < (by_layers[example.id].value or 0) < 1e-3 * (certified[example.id].value or 0)


def test_the_capacity_bound_holds_on_the_pairs_own_matrices(architecture: Callable[[str], Any]) -> None:
    world = architecture("bert")

    found = list(LayerProduct().measure(world.subject(world.full)))

    bounds, changes = numbers(found, "capacity-bound"), numbers(found, "capacity-change")
    assert all(0 < (changes[id_].value or 0) <= (bound.value or 0) for id_, bound in bounds.items())
    assert {bound.status for bound in bounds.values()} == {MeasurementStatus.VACUOUS}


@pytest.mark.parametrize("probe", [QUICK, LayerProduct()])
def test_another_architecture_is_unsupported(architecture: Callable[[str], Any], probe: Any) -> None:
    world = architecture("xlnet")
    subject: Subject = world.subject(world.full)

    with pytest.raises(Unsupported):
        list(probe.measure(subject))


def test_a_bound_that_overflows_is_errored_alone(
    architecture: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = architecture("bert")
    subject = world.subject(world.full)
    first = replace(subject, examples=subject.examples[:1])
    expected = list(LipschitzUpper(radius=10.0, samples=4, ascent_steps=0).measure(first))
    monkeypatch.setattr(certified, "layer_product", lambda text, distance: math.inf)

    found = list(LipschitzUpper(radius=10.0, samples=4, ascent_steps=0).measure(first))

    radius, upper, lower = (reading.measurement for reading in found)
    assert (radius, lower) == (expected[0].measurement, expected[2].measurement)
    assert (upper.quantity.name, upper.status, upper.value) == ("lipschitz-upper", MeasurementStatus.ERRORED, None)
    assert "overflow" in upper.reason


def test_a_layer_product_that_overflows_is_errored_alone(
    architecture: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = architecture("bert")
    monkeypatch.setattr(layer_product, "layer_product", lambda text, distance: math.inf)

    found = list(LayerProduct().measure(world.subject(world.full)))

    products, radii = (numbers(found, name) for name in ("layer-product", "layer-product-radius"))
    assert {each.status for each in products.values()} == {MeasurementStatus.ERRORED}
    assert [each.value for each in radii.values()] == [0.0] * 3
    assert len(numbers(found, "capacity-bound")) == 3


def test_a_capacity_bound_that_overflows_leaves_the_observed_change() -> None:
    weight, update = (torch.diag(torch.tensor(each, dtype=torch.float64)) for each in ([0.0, 1e200], [1.0, 0.0]))
    network = ([weight, weight], [update, update])

    bound, change = layer_product._capacity(network, torch.tensor([1.0, 0.0]).double())

    expected = torch.nn.functional.gelu(torch.nn.functional.gelu(torch.tensor(1.0).double()))
    assert bound.status is MeasurementStatus.ERRORED
    assert change.value == pytest.approx(float(expected), rel=1e-12)
