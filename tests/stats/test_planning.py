from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial, t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower

from robustness.stats.planning import (
    REPEATED_SHARE,
    detectable_gap,
    detectable_gap_over_seeds,
    equivalence_power,
    examples_for_equivalence,
)

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("n", "rarer_share", "alpha"), [(148, 0.05, 0.05), (1000, 0.02, 0.05 / 12), (81, 0.1, 0.025)]
)
def test_the_gap_is_found_four_times_out_of_five(n: int, rarer_share: float, alpha: float) -> None:
    """Simulated: McNemar's exact test of statsmodels on tables drawn at that gap."""
    gap = detectable_gap(n, rarer_share=rarer_share, alpha=alpha)
    shares = [rarer_share, rarer_share + gap, 1 - gap - 2 * rarer_share]
    tables, copies = np.unique(np.random.default_rng(0).multinomial(n, shares, 4000), axis=0, return_counts=True)

    p_values = np.array([mcnemar([[0, b], [c, 0]], exact=True).pvalue for b, c, _ in tables])

    assert 0.78 <= (copies * (p_values <= alpha)).sum() / copies.sum() <= 0.82


def test_the_gap_of_many_examples_is_that_of_the_normal_approximation() -> None:
    n, r = 200_000, 0.05
    gap = detectable_gap(n, rarer_share=r)

    power = NormalIndPower(ddof=0).power(gap / math.sqrt(gap + 2 * r - gap**2), n, 0.05, ratio=0)

    assert power == pytest.approx(0.8, abs=0.02)


def test_a_rarer_share_or_a_stricter_level_moves_the_gap_the_right_way() -> None:
    assert detectable_gap(148, rarer_share=0.01) < detectable_gap(148) < detectable_gap(148, alpha=0.05 / 4)
    assert math.isnan(detectable_gap(5))
    assert detectable_gap(6, rarer_share=0.0) > 0.9  # six of six, and no fewer, are significant


def shares_within(n: int, rarer_share: float, margin: float, runs: int = 20_000) -> float:
    b, c, _ = np.random.default_rng(1).multinomial(n, [rarer_share, rarer_share, 1 - 2 * rarer_share], runs).T
    difference, discordant = (b - c) / (n + 2), (b + c + 2) / (n + 2)
    half = Z * np.sqrt((discordant - difference**2) / (n + 2))
    return float((np.abs(difference) + half <= margin).mean())


@pytest.mark.parametrize(("margin", "rarer_share"), [(0.02, 0.05), (0.02, 0.15), (0.05, 0.02)])
def test_equal_arms_are_within_the_margin_four_times_out_of_five(margin: float, rarer_share: float) -> None:
    needed = examples_for_equivalence(margin=margin, rarer_share=rarer_share)

    assert 0.78 <= shares_within(needed, rarer_share, margin) <= 0.82


@pytest.mark.parametrize("margin", [0.15, 0.2, 0.3])
def test_of_few_examples_no_fewer_would_do(margin: float) -> None:
    needed = examples_for_equivalence(margin=margin)

    assert equivalence_power(needed, margin=margin) >= 0.8 > equivalence_power(needed - 1, margin=margin)


@pytest.mark.parametrize("n", [40, 300, 1000, 2000, 5000])
def test_the_power_of_equality_is_that_of_simulation(n: int) -> None:
    assert equivalence_power(n) == pytest.approx(shares_within(n, 0.05, 0.02), abs=0.012)


@pytest.mark.parametrize("margin", [0.12, 0.2])
def test_the_power_of_equality_is_the_sum_over_all_tables(margin: float) -> None:
    n, r, total = 60, 0.05, 0.0
    for b, c in itertools.product(range(n + 1), repeat=2):
        difference, discordant = (b - c) / (n + 2), (b + c + 2) / (n + 2)
        half = Z * math.sqrt(max(0.0, discordant - difference**2) / (n + 2))
        if b + c <= n and abs(difference) + half <= margin:
            total += multinomial.pmf([b, c, n - b - c], n, [r, r, 1 - 2 * r])

    assert equivalence_power(n, margin=margin) == pytest.approx(total, abs=1e-12)


def test_arms_that_never_differ_are_equal_once_two_further_examples_weigh_little_enough() -> None:
    """z sqrt(2) / N <= margin: N = 139 for two points."""
    assert equivalence_power(136, rarer_share=0.0) == 0.0
    assert equivalence_power(137, rarer_share=0.0) == 1.0


def share_found(seeds: int, n: int, seed_sd: float, rarer_share: float, gap: float, alpha: float) -> float:
    """Draws whole tables of seeds by examples, normal, and tests them by their mean squares."""
    rng = np.random.default_rng(2)
    sd = math.sqrt(REPEATED_SHARE * 2 * rarer_share), math.sqrt((1 - REPEATED_SHARE) * 2 * rarer_share)
    found = []
    for _ in range(2000):
        table = gap + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, sd[0], n) + rng.normal(0, sd[1], (seeds, n))
        by_seed, by_example = table.mean(axis=1, keepdims=True), table.mean(axis=0)
        rest = ((table - by_seed - by_example + table.mean()) ** 2).sum() / ((seeds - 1) * (n - 1))
        ms_seed, ms_example = n * by_seed.var(ddof=1), seeds * by_example.var(ddof=1)
        quantile = t.ppf(1 - alpha / 2, seeds - 1)
        squared = quantile**2 * ms_seed + t.ppf(1 - alpha / 2, 10**6) ** 2 * max(0.0, ms_example - rest)
        found.append(abs(table.mean()) > math.sqrt(squared / (seeds * n)))
    return float(np.mean(found))


@pytest.mark.parametrize(("seeds", "n", "alpha"), [(3, 148, 0.05), (5, 300, 0.05 / 4), (10, 148, 0.05)])
def test_the_gap_over_seeds_is_found_four_times_out_of_five(seeds: int, n: int, alpha: float) -> None:
    gap = detectable_gap_over_seeds(seeds, n, alpha=alpha)

    assert 0.77 <= share_found(seeds, n, 0.01, 0.05, gap, alpha) <= 0.83


@pytest.mark.filterwarnings("error")
def test_more_seeds_show_smaller_gaps_and_spread_seeds_larger_ones() -> None:
    gaps = [detectable_gap_over_seeds(seeds, 1000) for seeds in (2, 3, 5, 10)]

    assert gaps == sorted(gaps, reverse=True)
    assert detectable_gap_over_seeds(3, 1000, seed_sd=0.04) > 2 * gaps[1]
    assert detectable_gap_over_seeds(3, 10, seed_sd=0.0, rarer_share=0.0) < 0.001  # nothing varies
    assert detectable_gap_over_seeds(3, 1) > 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: detectable_gap(10, rarer_share=0.6),
        lambda: detectable_gap(10, rarer_share=-0.1),
        lambda: detectable_gap(10, alpha=0.0),
        lambda: detectable_gap(10, power=1.0),
        lambda: detectable_gap(-1),
        lambda: equivalence_power(-1),
        lambda: equivalence_power(10, margin=0.0),
        lambda: examples_for_equivalence(margin=1e-5),
        lambda: detectable_gap_over_seeds(1, 10),
        lambda: detectable_gap_over_seeds(3, 0),
        lambda: detectable_gap_over_seeds(3, 10, seed_sd=-0.1),
    ],
)
def test_what_cannot_be_planned_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        call()  # type: ignore[operator]


def test_the_exact_test_is_scipys() -> None:
    """What the simulations above take from statsmodels is the binomial test."""
    assert mcnemar([[0, 9], [2, 0]], exact=True).pvalue == pytest.approx(binomtest(2, 11).pvalue)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.02])
def test_a_margin_lies_between_nothing_and_all(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        equivalence_power(100, margin=margin)
