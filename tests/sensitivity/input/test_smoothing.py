from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm

from robustness.recipes.embedding.ball_attacks import Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.input.smoothing import Smoothing, certified_radius, clopper_pearson_lower, noisy_counts
from robustness.sensitivity.measurement import Kind, MeasurementStatus, Target
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import EmbeddedBatch

ALPHA = 0.01


def probe(**changes: Any) -> Smoothing:
    settings: dict[str, Any] = {
        "sigmas": (0.05, 0.2, 1.0),
        "selection_samples": 16,
        "samples": 100,
        "alpha": 0.001,
        "radii": (0.05, 0.2),
    }
    return Smoothing(**settings | changes)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (99, 100), (100, 100)])
def test_the_clopper_pearson_bound_is_scipys(successes: int, n: int) -> None:
    exact = binomtest(successes, n, alternative="greater").proportion_ci(1 - ALPHA, "exact").low

    assert clopper_pearson_lower(successes, n, ALPHA) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(("n", "sigmas"), [(100, 1.50), (1000, 2.463), (10_000, 3.199), (100_000, 3.811)])
def test_the_largest_radius_at_one_in_a_thousand_is_the_published_one(n: int, sigmas: float) -> None:
    assert certified_radius(clopper_pearson_lower(n, n, 0.001), 1.0) == pytest.approx(sigmas, abs=0.005)


def test_radii_of_a_linear_model_exceed_its_distance_no_more_often_than_alpha(
    as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    """For two labels P(f = y) = Phi(m / (sigma |w|)), so sigma Phi^-1 of it is the distance m / |w| itself."""
    function, weights = linear
    batch = as_batch(lambda p: function(p)[:, :2], points[:1])
    logits, label = batch.logits(batch.embeddings)[0], int(batch.labels[0])
    distance = float((logits[label] - logits[1 - label]) / (weights[0] - weights[1]).norm())
    sigma, n, repeats = distance, 200, 2000
    # The model is linear: under the noise its margin is Gaussian, so the counts are drawn rather than run.
    counts = np.random.default_rng(0).binomial(n, norm.cdf(distance / sigma), size=repeats)
    radii = np.array([certified_radius(clopper_pearson_lower(int(k), n, ALPHA), sigma) for k in counts])

    violations = int((radii > distance).sum())
    assert violations <= binom.ppf(0.9999, repeats, ALPHA)
    many = 200_000
    close = certified_radius(clopper_pearson_lower(round(norm.cdf(1) * many), many, ALPHA), sigma)
    assert close == pytest.approx(distance, rel=0.01)
    assert close <= distance


def test_noisy_counts_are_those_of_the_closed_form(as_batch: Any, linear: Any, points: torch.Tensor) -> None:
    function, weights = linear
    batch = as_batch(lambda p: function(p)[:, :2], points[1:2])
    logits, label = batch.logits(batch.embeddings)[0], int(batch.labels[0])
    distance = float((logits[label] - logits[1 - label]) / (weights[0] - weights[1]).norm())

    counts = noisy_counts(batch, 2 * distance, 4000, torch.Generator().manual_seed(0))

    low, high = binom.ppf([1e-6, 1 - 1e-6], 4000, norm.cdf(0.5))
    assert counts.sum() == 4000 and low <= counts[label] <= high


@pytest.mark.parametrize("room", [1, 7])
def test_votes_do_not_depend_on_the_points_that_fit_the_memory(
    room: int, as_batch: Any, linear: Any, points: torch.Tensor
) -> None:
    function, sizes = linear[0], []

    def within_memory(given: torch.Tensor) -> torch.Tensor:
        sizes.append(len(given))
        if len(given) > room:
            raise torch.OutOfMemoryError
        return torch.as_tensor(function(given))

    whole, halved = as_batch(function, points[:1]), as_batch(within_memory, points[:1])
    expected = noisy_counts(whole, 2.0, 500, torch.Generator().manual_seed(0))
    sizes.clear()
    found = noisy_counts(halved, 2.0, 500, torch.Generator().manual_seed(0))

    assert (found > 0).sum() > 1 and found.tolist() == expected.tolist()
    assert max(sizes) == 102 and sum(size > room for size in sizes) <= 7  # 512 tokens, and its halves


def test_a_single_noisy_point_that_does_not_fit_says_so(as_batch: Any, linear: Any, points: torch.Tensor) -> None:
    def refuse(given: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    batch = as_batch(refuse, points[:1], [0])

    with pytest.raises(torch.OutOfMemoryError):
        noisy_counts(batch, 2.0, 500, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def measured(tiny: Any, subject_of: Any) -> Any:
    return list(probe().measure(subject_of(tiny.peft, count=4)))


def rows_of(readings: Any, quantity: str) -> list[Any]:
    return [reading for reading in readings if reading.measurement.quantity.name == quantity]


def test_certificates_are_labelled_for_the_smoothed_classifier_at_every_level(measured: Any) -> None:
    rows = [reading.measurement for reading in rows_of(measured, "certified-radius")]

    assert len(rows) == 12
    assert {(row.kind, row.target, row.alpha) for row in rows} == {(Kind.CERT_PROB, Target.SMOOTHED, 0.001)}
    assert {(row.sigma, row.radius) for row in rows} == {(0.05, None), (0.2, None), (1.0, None)}
    assert max(row.value for row in rows) > 0


def test_the_curves_of_certified_accuracy_follow_from_the_radii_of_their_level(measured: Any) -> None:
    radii = {(r.example.id, r.measurement.sigma): r.measurement.value for r in rows_of(measured, "certified-radius")}
    levels = {0.05: (0.05,), 0.2: (0.05, 0.2), 1.0: (0.05, 0.2)}  # 0.05 Phi^-1(0.001^(1/100)) = 0.075 is below 0.2

    for sigma, reachable in levels.items():
        points = [r for r in rows_of(measured, "certified-accuracy") if r.measurement.sigma == sigma]
        assert len(points) == 4 * len(reachable)
        assert all(r.measurement.value == float(radii[r.example.id, sigma] >= r.measurement.radius) for r in points)


def test_the_average_over_the_grid_holds_where_all_its_certificates_do(measured: Any) -> None:
    radii: dict[str, list[float]] = {}
    for reading in rows_of(measured, "certified-radius"):
        radii.setdefault(reading.example.id, []).append(reading.measurement.value)

    averages = rows_of(measured, "average-certified-radius")
    assert {r.example.id: r.measurement.value for r in averages} == pytest.approx(
        {key: float(np.mean(values)) for key, values in radii.items()}
    )
    assert {(r.measurement.kind, r.measurement.sigma) for r in averages} == {(Kind.CERT_PROB, None)}
    assert averages[0].measurement.alpha == pytest.approx(1 - 0.999**3)


def test_both_arms_have_rows_at_the_same_levels(measured: Any, tiny: Any, subject_of: Any) -> None:
    """Their radii differ, their grid does not: every quantity, norm and level of one pairs with the other's."""

    def places(readings: Any) -> set[Any]:
        found = ((reading.measurement, reading.example) for reading in readings if reading.example)
        return {(each.quantity.name, each.radius, each.sigma, example.id) for each, example in found}

    assert places(measured) == places(list(probe().measure(subject_of(tiny.full, count=4))))


def test_noisy_accuracy_falls_with_the_noise(measured: Any) -> None:
    values: dict[float, list[float]] = {}
    for reading in rows_of(measured, "noisy-accuracy"):
        values.setdefault(reading.measurement.sigma, []).append(reading.measurement.value)

    assert {len(each) for each in values.values()} == {4}
    assert np.mean(values[0.05]) > np.mean(values[1.0])


def test_what_is_wrong_or_too_noisy_has_radius_zero(tiny: Any, subject_of: Any, examples: list[Example]) -> None:
    wrong = Example("wrong", examples[0].texts, 1 - examples[0].label)

    def radii(**changes: Any) -> list[float]:
        readings = probe(**changes).measure(subject_of(tiny.peft, chosen=[wrong, examples[0]]))
        return [r.measurement.value for r in readings if r.measurement.quantity.name == "certified-radius"]

    assert min(radii(sigmas=(0.05,))) == 0 < max(radii(sigmas=(0.05,)))
    assert radii(sigmas=(0.05,), samples=3) == [0, 0]  # three votes never certify at one in a thousand


def test_sigma_50_lies_on_the_grid_or_says_that_it_does_not(measured: Any, tiny: Any, subject_of: Any) -> None:
    inside = next(r.measurement for r in measured if r.measurement.quantity.name == "sigma-50")
    small = probe(sigmas=(1e-6,)).measure(subject_of(tiny.peft, count=1))
    outside = next(r.measurement for r in small if r.measurement.quantity.name == "sigma-50")

    assert inside.value is not None and 0.05 < inside.value <= 1.0
    assert outside.status is MeasurementStatus.NOT_CONVERGED and "does not fall" in outside.reason


def test_company_changes_no_certificate(tiny: Any, subject_of: Any, examples: list[Example], by_example: Any) -> None:
    together = by_example(probe().measure(subject_of(tiny.peft, chosen=examples[:3])), "certified-radius")
    alone = by_example(probe().measure(subject_of(tiny.peft, chosen=examples[2:3])), "certified-radius")

    assert together["2"] == alone["2"]


def test_ten_times_the_logits_leave_certificates_as_they_are(
    tiny: Any, subject_of: Any, scaled: Any, by_example: Any
) -> None:
    once = by_example(probe().measure(subject_of(tiny.peft, count=3)), "certified-radius")

    assert by_example(probe().measure(subject_of(tiny.peft, count=3, victim=scaled)), "certified-radius") == once


def test_an_attack_inside_a_certified_radius_never_changes_the_vote(as_batch: Any) -> None:
    """The smoothed classifier itself is attacked: PGD on its average over fixed noise, then a fresh vote."""
    rng = torch.Generator().manual_seed(2)
    first, second = torch.randn(6, 24, generator=rng), torch.randn(24, 2, generator=rng)

    def function(points: torch.Tensor) -> torch.Tensor:
        return torch.tanh(points.flatten(1) @ first) @ second

    noise = torch.randn(400, 2, 3, generator=rng)
    sigma, flips, certified = 0.5, 0, 0
    for seed in range(12):
        points = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(seed))
        batch = as_batch(function, points)
        counts = noisy_counts(batch, sigma, 2000, torch.Generator().manual_seed(100 + seed))
        label = int(counts.argmax())
        radius = certified_radius(clopper_pearson_lower(int(counts[label]), 2000, 1e-6), sigma)
        if radius == 0:
            continue
        certified += 1

        def average(p: torch.Tensor) -> torch.Tensor:
            many = (p[:, None] + sigma * noise[None]).flatten(0, 1)
            return torch.softmax(5 * function(many), dim=1).unflatten(0, (len(p), 400)).mean(dim=1)

        smooth = EmbeddedBatch(
            points, batch.content, torch.tensor([label]), 1.0, batch.inputs, lambda e, _: average(e)
        )
        found = Pgd(Norm.L2, steps=20, random_start=False).perturb(smooth, torch.tensor([0.999 * radius]), ())
        moved = as_batch(function, points + found.delta)
        vote = noisy_counts(moved, sigma, 4000, torch.Generator().manual_seed(200 + seed))
        flips += int(vote.argmax()) != label

    assert certified >= 6
    assert flips == 0
