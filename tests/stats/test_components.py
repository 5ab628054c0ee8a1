from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLM

from robustness.stats import separate_seeds


def crossed(
    rng: np.random.Generator, seeds: int, n: int, seed_sd: float, example_sd: float, rest_sd: float
) -> NDArray[np.float64]:
    """Differences of known components, shape (seeds, n)."""
    effects = rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, example_sd, (1, n))
    return 0.1 + effects + rng.normal(0, rest_sd, (seeds, n))


def test_components_are_those_of_a_mixed_model() -> None:
    table = crossed(np.random.default_rng(3), seeds=4, n=30, seed_sd=0.2, example_sd=0.3, rest_sd=0.4)
    seeds, n = table.shape
    frame = pd.DataFrame(
        {"d": table.ravel(), "seed": np.repeat(np.arange(seeds), n), "example": np.tile(np.arange(n), seeds)}
    )
    parts = {"seed": "0 + C(seed)", "example": "0 + C(example)"}
    model = MixedLM.from_formula("d ~ 1", frame, groups=np.ones(len(frame)), vc_formula=parts, re_formula="0")
    fitted = model.fit(reml=True)
    expected = dict(zip(model.exog_vc.names, np.sqrt(fitted.vcomp), strict=True))

    found = separate_seeds(table)

    assert found.seed == pytest.approx(expected["seed"], rel=1e-3)
    assert found.example == pytest.approx(expected["example"], rel=1e-3)
    assert found.interaction == pytest.approx(math.sqrt(fitted.scale), rel=1e-3)
    mean_variance = float(fitted.bse_fe.iloc[0]) ** 2
    assert found.seed_share == pytest.approx(found.seed**2 / seeds / mean_variance, rel=1e-3)


def test_estimates_are_unbiased_and_the_interval_covers() -> None:
    rng = np.random.default_rng(5)

    found = [separate_seeds(crossed(rng, 3, 60, seed_sd=0.1, example_sd=0.3, rest_sd=0.3)) for _ in range(1000)]

    covered = np.mean([parts.seed_interval.low <= 0.1 <= parts.seed_interval.high for parts in found])
    assert np.mean([parts.seed**2 for parts in found]) == pytest.approx(0.01, rel=0.1)
    assert np.mean([parts.example**2 for parts in found]) == pytest.approx(0.09, rel=0.02)
    assert np.mean([parts.interaction**2 for parts in found]) == pytest.approx(0.09, rel=0.02)
    assert 0.94 <= covered <= 0.98


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_interval_covers_for_differences_of_right_and_wrong(seeds: int, shift: float) -> None:
    rng = np.random.default_rng(6)
    covered = 0

    for _ in range(400):
        only_reference = 0.3 + rng.normal(0, shift, (seeds, 1))
        draws = rng.random((seeds, 100))
        table = np.where(draws < only_reference, 1, np.where(draws > 0.9, -1, 0))
        interval = separate_seeds(table).seed_interval
        covered += interval.low <= shift <= interval.high

    assert covered / 400 >= 0.93


def test_two_seeds_say_little_and_more_say_more() -> None:
    table = crossed(np.random.default_rng(1), 12, 200, seed_sd=0.1, example_sd=0.3, rest_sd=0.3)

    two, twelve = separate_seeds(table[:2]).seed_interval, separate_seeds(table).seed_interval

    assert two.high > 10 * twelve.high and twelve.low > 0


def test_seeds_alike_in_their_means_are_not_called_alike() -> None:
    table = np.array([[1, 0, 0, -1] * 20, [0, 1, -1, 0] * 20])

    found = separate_seeds(table)

    assert found.seed == 0 and found.seed_share == 0
    assert found.seed_interval.low == 0 and found.seed_interval.high > 0.5


def test_where_no_example_tells_seeds_apart_nothing_is_said_of_other_seeds() -> None:
    found = separate_seeds([[1.0, 0.0, 0.0, -1.0, 1.0]] * 3)

    assert math.isnan(found.seed_interval.low) and math.isnan(found.seed_interval.high)
    assert found.seed == 0 and found.interaction == 0 and found.example > 0
    assert math.isnan(separate_seeds(np.zeros((2, 5))).seed_share)
    assert math.isnan(separate_seeds(np.ones((2, 1))).seed)


def test_rounding_is_no_component() -> None:
    table = np.zeros((2, 148))
    table[0, [3, 7, 9]], table[1, [3, 7, 11]] = [1, -1, 1], [-1, 1, 1]

    found = separate_seeds(table)

    assert found.seed == 0 and found.example == 0 and found.interaction > 0.1


def test_equal_groups_are_their_means_and_their_number_is_what_counts() -> None:
    table = crossed(np.random.default_rng(2), 3, 40, seed_sd=0.1, example_sd=0.3, rest_sd=0.2)

    assert separate_seeds(np.repeat(table, 4, axis=1), np.repeat(np.arange(40), 4)) == separate_seeds(table)


def test_groups_of_unequal_size_keep_the_mean_over_rows() -> None:
    rng = np.random.default_rng(2)
    names = np.repeat(np.arange(200), rng.integers(1, 5, 200))
    draws = [
        separate_seeds(crossed(rng, 4, 200, seed_sd=0.2, example_sd=0.0, rest_sd=0.3)[:, names], names).seed ** 2
        for _ in range(300)
    ]

    assert np.mean(draws) == pytest.approx(0.04, rel=0.1)


def test_one_seed_is_refused_and_groups_must_fit() -> None:
    with pytest.raises(ValueError, match="two rows"):
        separate_seeds([[1.0, 0.0]])
    with pytest.raises(ValueError, match="groups"):
        separate_seeds([[1.0, 0.0], [0.0, 0.0]], ["a"])
