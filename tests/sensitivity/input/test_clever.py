from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import weibull_max

from robustness.sensitivity.input.clever import Clever, fit_end_point, gradient_maxima
from robustness.sensitivity.measurement import Kind
from robustness.victims.heads.embedded_batch import frozen


def test_a_linear_models_maxima_are_all_the_norm_of_its_weights(as_batch: Any, linear: Any, points: Any) -> None:
    function, weights = linear
    batch = as_batch(function, points[:1])

    maxima, gaps = gradient_maxima(batch, 0.3, 3, 4, torch.Generator().manual_seed(0))

    label = int(batch.labels[0])
    logits = function(points[:1])[0]
    others = [c for c in range(3) if c != label]
    exact = [float((weights[label] - weights[c]).norm()) for c in others]
    assert maxima == pytest.approx(np.tile(exact, (3, 1)), rel=1e-6)
    assert gaps == pytest.approx([float(logits[label] - logits[c]) for c in others])
    assert [fit_end_point(column) for column in maxima.T] == [(column.max(), False) for column in maxima.T]


def test_the_fit_finds_the_end_point_of_a_reverse_weibull_law() -> None:
    draws = weibull_max(2.0, loc=5.0, scale=1.0).rvs(400, random_state=0)

    end, is_fit = fit_end_point(draws)

    assert is_fit and end == pytest.approx(5.0, abs=0.1) and end >= draws.max()


def test_where_the_law_does_not_fit_the_largest_is_taken() -> None:
    two_heaps = np.array([1.0] * 60 + [1.001] * 60 + [9.0] * 60 + [9.001] * 60)

    assert fit_end_point(two_heaps) == (9.001, False)


def test_a_quadratics_gradients_stay_below_their_supremum(as_batch: Any) -> None:
    """z = (|x|^2 / 2, 0): the gradient at x + d is x + d, at most |x| + r."""
    point = torch.full((1, 1, 2), 1.0, dtype=torch.float64)
    batch = as_batch(lambda p: torch.stack([p.flatten(1).square().sum(1) / 2, 0 * p.flatten(1)[:, 0]], 1), point)

    maxima, gaps = gradient_maxima(batch, 0.5, 10, 200, torch.Generator().manual_seed(1))

    supremum = 2**0.5 + 0.5
    assert (maxima <= supremum).all() and maxima.max() > 0.97 * supremum
    assert gaps.tolist() == [1.0]


def test_the_probe_labels_an_estimate_between_nothing_and_its_radius(tiny: Any, subject_of: Any) -> None:
    readings = list(Clever(radius=0.5, batches=3, samples=2).measure(subject_of(tiny.peft, count=5)))

    victim = subject_of(tiny.peft).victim
    with frozen(victim):
        batch = victim.embed([reading.example for reading in readings])
        right = batch.logits(batch.embeddings).argmax(dim=1) == batch.labels
    values = [reading.measurement.value for reading in readings]
    assert {reading.measurement.kind for reading in readings} == {Kind.ESTIMATE}
    assert [value > 0 for value in values] == right.tolist()
    assert all(0 <= value <= 0.5 for value in values)


def test_maxima_do_not_depend_on_the_points_that_fit_the_memory(as_batch: Any, points: torch.Tensor) -> None:
    def bent(given: torch.Tensor) -> torch.Tensor:
        return torch.stack([given.square().sum((1, 2)), given.sin().sum((1, 2)), given[:, 0, 0]], dim=1)

    sizes = []

    def within_memory(given: torch.Tensor) -> torch.Tensor:
        sizes.append(len(given))
        if len(given) > 3:
            raise torch.OutOfMemoryError
        return bent(given)

    expected, gaps = gradient_maxima(as_batch(bent, points[:1]), 0.5, 4, 16, torch.Generator().manual_seed(0))
    found = gradient_maxima(as_batch(within_memory, points[:1]), 0.5, 4, 16, torch.Generator().manual_seed(0))

    assert max(sizes) == 16 and sum(size > 3 for size in sizes) == 3
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], gaps)
