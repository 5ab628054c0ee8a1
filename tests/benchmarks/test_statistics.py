"""Coverage, false positives and power of the paired statistics, by simulation, and what the resampling costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustness.stats import (
    Verdict,
    bca_mean_interval,
    bootstrap_over_seeds,
    detectable_difference,
    holm,
    mcnemar_exact,
    mcnemar_mid_p,
    mcnemar_power,
    paired_difference_interval,
    paired_permutation,
    verdict,
)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

Save = Callable[[str, dict[str, Any]], None]
RUNS = 2_000
FAMILIES = 500
FAMILY = 10
SIZES = (80, 150, 1000)
SHARES = {"few discordant": (0.03, 0.05), "typical": (0.10, 0.15), "many discordant": (0.25, 0.25)}
"""Shares of examples in which the PEFT arm alone and the full arm alone is right."""


def draw(rng: np.random.Generator, n: int, shares: tuple[float, float]) -> NDArray[np.int64]:
    only_peft, only_full = shares
    return rng.choice([-1, 0, 1], n, p=[only_peft, 1 - only_peft - only_full, only_full])


def coverage_table(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for n in SIZES:
        for name, shares in SHARES.items():
            truth, inside = shares[1] - shares[0], 0
            for _ in range(RUNS):
                interval = paired_difference_interval(draw(rng, n, shares), rng=rng, resamples=2_000)
                inside += interval.low - 1e-12 <= truth <= interval.high + 1e-12
            rows.append({"n": n, "shares": name, "coverage": inside / RUNS})
    return rows


def grouped_coverage(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for n_groups in (80, 300):
        inside = 0
        for _ in range(RUNS // 2):
            sizes = rng.integers(1, 6, n_groups)
            values = np.repeat(draw(rng, n_groups, SHARES["typical"]), sizes)
            groups = np.repeat(np.arange(n_groups), sizes)
            interval = paired_difference_interval(values, groups, rng=rng, resamples=2_000)
            inside += interval.low <= 0.05 <= interval.high
        rows.append({"groups": n_groups, "rows in a group": "1 to 5, all alike", "coverage": inside / (RUNS // 2)})
    return rows


def seeded_coverage(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Seeds differ by 3 points around a true difference of 5."""
    rows = []
    for seeds in (3, 5, 10):
        inside = 0
        for _ in range(RUNS // 4):
            shifts = rng.normal(0.05, 0.03, seeds)
            table = np.stack([draw(rng, 150, (0.12 - s / 2, 0.12 + s / 2)) for s in np.clip(shifts, -0.2, 0.2)])
            interval = bootstrap_over_seeds(table, rng=rng, resamples=1_000).interval
            inside += interval.low <= 0.05 <= interval.high
        rows.append({"seeds": seeds, "n": 150, "coverage": inside / (RUNS // 4)})
    return rows


def false_positives(rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often at least one of ten comparisons of equal arms is called more fragile, after Holm."""
    rows = []
    for n in SIZES:
        for test in (mcnemar_exact, mcnemar_mid_p):
            alarms = 0
            for _ in range(FAMILIES):
                differences = [draw(rng, n, (0.12, 0.12)) for _ in range(FAMILY)]
                adjusted = holm([test(d == 1, d == -1).p_value for d in differences])
                intervals = [
                    paired_difference_interval(d, rng=rng, resamples=1_000) if p <= 0.05 else None
                    for d, p in zip(differences, adjusted, strict=True)
                ]
                alarms += any(
                    interval is not None
                    and verdict(d.mean(), interval, p) in (Verdict.PEFT_MORE_FRAGILE, Verdict.FULL_MORE_FRAGILE)
                    for d, interval, p in zip(differences, intervals, adjusted, strict=True)
                )
            rows.append({"n": n, "test": test.__name__, "false_alarms": alarms / FAMILIES})
    return rows


def power_table() -> list[dict[str, Any]]:
    return [
        {
            "n": n,
            "discordant_share": share,
            "power": {
                f"{d:.2f}": round(mcnemar_power(n, d, share), 4) for d in (0.02, 0.05, 0.1, 0.15) if d <= share
            },
            "detectable": round(detectable_difference(n, share), 4),
            "detectable_in_a_family_of_10": round(detectable_difference(n, share, alpha=0.005), 4),
        }
        for n in (78, 148, 200, 1000, 3560)
        for share in (0.1, 0.2, 0.4)
    ]


def seconds(call: Callable[[], object]) -> float:
    """Of one processor: other work may run beside."""
    started = time.process_time()
    call()
    return round(time.process_time() - started, 4)


def resampling_seconds(rng: np.random.Generator) -> dict[str, float]:
    """10,000 resamples of a pair of 3,560 rows."""
    rates, scores, groups = draw(rng, 3560, (0.1, 0.15)), rng.normal(size=3560), np.arange(3560) // 2
    return {
        "difference of rates": seconds(lambda: paired_difference_interval(rates, rng=rng)),
        "difference of rates, groups of two": seconds(lambda: paired_difference_interval(rates, groups, rng=rng)),
        "BCa of continuous scores": seconds(lambda: bca_mean_interval(scores, rng=rng)),
        "permutation of continuous scores": seconds(lambda: paired_permutation(scores, rng=rng)),
        "five training seeds": seconds(lambda: bootstrap_over_seeds(np.stack([rates] * 5), rng=rng)),
    }


def test_intervals_cover_and_verdicts_keep_their_level(save_result: Save) -> None:
    rng = np.random.default_rng(2026)
    figures = {
        "simulated_pairs": RUNS,
        "coverage": coverage_table(rng),
        "coverage_of_groups": grouped_coverage(rng),
        "coverage_over_seeds": seeded_coverage(rng),
        "families": FAMILIES,
        "false_alarms_in_families_of_10": false_positives(rng),
        "power": power_table(),
        "processor_seconds_of_10000_resamples_of_3560_rows": resampling_seconds(rng),
    }

    save_result("statistics", figures)
    assert all(0.93 <= row["coverage"] <= 0.97 for row in figures["coverage"] if row["shares"] != "few discordant")
    assert all(row["coverage"] >= 0.93 for row in figures["coverage"] + figures["coverage_of_groups"])
    assert all(
        row["false_alarms"] <= 0.05 for row in figures["false_alarms_in_families_of_10"] if "exact" in row["test"]
    )
    assert max(figures["processor_seconds_of_10000_resamples_of_3560_rows"].values()) < 1
