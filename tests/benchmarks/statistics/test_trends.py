"""Intervals and tests of trends, simulated with known truths; `make bench ONLY=statistics` writes the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from robustness.stats import Trend, detectable_slope, judge_trend, monotone_trend, separate_seeds, slope_over_seeds
from robustness.stats.estimates import Part

DOSES = 5
REPEATS, FULL_REPEATS, DETECTABLES = 600, 300, 30
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]
Column = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """Checkpoints whose residuals have standard deviation 1, over doses 0 to 4."""

    seeds: int
    slope_sd: float
    """Of the seeds' own slopes."""


def draw(setting: Setting, slope: float, rng: np.random.Generator) -> tuple[Column, Column, NDArray[np.int64]]:
    doses, seeds = np.tile(np.arange(float(DOSES)), setting.seeds), np.repeat(np.arange(setting.seeds), DOSES)
    own = slope + setting.slope_sd * rng.normal(size=setting.seeds)
    return own[seeds] * doses + rng.normal(size=setting.seeds)[seeds] + rng.normal(size=len(seeds)), doses, seeds


def simulate(setting: Setting) -> dict[str, float]:
    """Coverage at no slope, how often a test errs there, and power at the slope called detectable."""
    rng = np.random.default_rng(setting.seeds + int(100 * setting.slope_sd))
    covered = ordered = claimed = 0
    detectable = []
    for _ in range(REPEATS):
        values, doses, seeds = draw(setting, 0.0, rng)
        slope, order = slope_over_seeds(values, doses, seeds), monotone_trend(values, doses, seeds)
        interval = slope.estimate.interval()
        covered += interval.low <= 0 <= interval.high
        ordered += order.p_value <= 0.05
        claimed += judge_trend(slope, order, doses, margin=0.0) in (Trend.RISES, Trend.FALLS)
        if len(detectable) < DETECTABLES:
            detectable.append(detectable_slope(slope, doses, seeds))
    true, found = float(np.median(detectable)), 0
    for _ in range(REPEATS):
        values, doses, seeds = draw(setting, true, rng)
        order = monotone_trend(values, doses, seeds)
        found += judge_trend(slope_over_seeds(values, doses, seeds), order, doses, margin=0.0) is Trend.RISES
    return {
        "seeds": setting.seeds,
        "slope_sd": setting.slope_sd,
        "coverage": covered / REPEATS,
        "order_errs": ordered / REPEATS,
        "trend_errs": claimed / REPEATS,
        "detectable": true,
        "power": found / REPEATS,
    }


def simulate_examples(seeds: int, n: int = 200) -> dict[str, float]:
    """Coverage where examples are drawn too: some are harder at some doses under every seed."""
    rng = np.random.default_rng(seeds)
    doses, names = np.tile(np.arange(float(DOSES)), seeds), np.repeat(np.arange(seeds), DOSES)
    spread, noise, cut = 0.6, 0.8, -0.2 + 0.1 * np.arange(DOSES)  # chances to withstand rise with the dose
    whole = np.sqrt(1 + spread**2 + noise**2)
    withstands = norm.cdf(cut / whole)
    truth = float(np.polyfit(np.arange(DOSES), withstands, 1)[0])
    covered = alone = 0
    for _ in range(FULL_REPEATS):
        hard = rng.normal(size=n) + spread * rng.normal(size=(DOSES, n))
        table = (cut[:, None] > hard + noise * rng.normal(size=(seeds, DOSES, n))).astype(float).reshape(-1, n)
        centred = np.arange(DOSES) - (DOSES - 1) / 2
        slopes = np.stack([centred @ table[names == seed] / (centred @ centred) for seed in range(seeds)])
        part = Part(separate_seeds(slopes).example ** 2 / n, n - 1)
        values = table.mean(axis=1)
        for examples in (part, None):
            interval = slope_over_seeds(values, doses, names, examples=examples).estimate.interval()
            hit = interval.low <= truth <= interval.high
            covered, alone = covered + (hit and examples is part), alone + (hit and examples is None)
    return {"seeds": seeds, "examples": n, "coverage": covered / FULL_REPEATS, "seeds_alone": alone / FULL_REPEATS}


def test_trends_hold_their_levels(
    save_result: Callable[[str, dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With equal doses the mixed model's interval is that of least squares within seeds, which takes no fit."""
    monkeypatch.setattr("robustness.stats.doses.trends._mixed_model", lambda *_: None)
    found = [simulate(Setting(seeds, slope_sd)) for seeds in (3, 5) for slope_sd in (0.0, 0.3)]
    drawn = [simulate_examples(seeds) for seeds in (3, 5)]

    save_result("trends", {"doses": DOSES, "repeats": REPEATS, "settings": found, "with_examples": drawn})
    for each in found:
        assert each["coverage"] > (0.93 if each["slope_sd"] == 0 else 0.90)
        assert each["trend_errs"] < 0.08
        assert each["power"] > 0.7 or each["slope_sd"] > 0
    assert all(each["coverage"] > 0.93 for each in drawn)
