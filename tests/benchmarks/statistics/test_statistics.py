"""Whether verdicts hold what they promise, on arms that are made up so that the truth is known."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmarks.statistics.simulated import (
    Truth,
    draw_discordant,
    draw_examples,
    draw_grouped,
    draw_outcomes,
    draw_seed_table,
    make_record,
)

from robustness.reports.comparisons.comparison import Comparison, Family, compare_rates
from robustness.reports.comparisons.families import give_verdicts
from robustness.reports.tables.pairs import build_pairs
from robustness.runs.storage.record import StatisticsRecord
from robustness.stats import (
    Reason,
    difference_over_seeds,
    effort_p_value,
    less_effort,
    mean_difference,
    signed_effort_ranks,
)

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

RUNS = int(os.environ.get("SIMULATED_RUNS", "2000"))
LABELS = {"pair": "p", "testset": "t", "attack": "a"}
FRAGILE = ("peft-more-fragile", "full-more-fragile")
MARGIN = StatisticsRecord().margin
Draw = Callable[[np.random.Generator], pd.DataFrame]
"""One run: rows of pairs.csv."""


@dataclass(frozen=True)
class Cell:
    """A setting that is simulated many times, with what is true in it."""

    name: str
    draw: Draw
    difference: float | None = 0.0
    """The true difference of the planned row; None: coverage is not asked for."""
    fragile: tuple[str, ...] = ()
    """Verdicts that would be true."""
    shifted: Callable[[np.random.Generator, float], pd.DataFrame] | None = None
    """Draws with a true difference: that which the setting itself calls detectable is to be found."""


def verdicts(comparisons: list[Comparison]) -> pd.DataFrame:
    return give_verdicts(comparisons, StatisticsRecord())


def rates(outcomes: Any, **labels: object) -> Comparison:
    return compare_rates(outcomes, LABELS | labels, metric="robust_accuracy", family=Family.PLANNED, seed=0)


def single(draw: Callable[[np.random.Generator], Any]) -> Draw:
    return lambda rng: verdicts([rates(draw(rng))])


def make_cells() -> Iterator[Cell]:
    yield from _alone()
    yield from _at_the_margin()
    yield from _clean_gaps()
    yield from _groups()
    yield from _seeds()
    yield from _incomplete()
    yield from _families()
    yield from _efforts()


def _alone() -> Iterator[Cell]:
    """Equal arms; and how often what is called detectable is found."""
    for n in (100, 500, 1000, 3560):
        for share in (0.05, 0.1, 0.2, 0.3):
            yield Cell(
                f"equal | n {n} | discordant {share}", single(lambda rng, n=n, s=share: draw_discordant(rng, n, s, 0))
            )
    for n in (100, 500, 3560):
        for share in (0.1, 0.2):
            yield from _detectable(
                f"n {n} | rarer share {share / 2}",
                lambda rng, d, n=n, s=share: verdicts([rates(draw_discordant(rng, n, d + s, d))]),
            )


def _detectable(name: str, draw: Callable[[np.random.Generator, float], pd.DataFrame]) -> Iterator[Cell]:
    yield Cell(f"detectable | {name}", lambda rng: draw(rng, 0.0), None, FRAGILE[:1], draw)


def at_detectable(cell: Cell) -> Cell:
    """The same where the true difference is the median of what equal arms call detectable."""
    assert cell.shifted is not None
    rng, shifted = np.random.default_rng(7), cell.shifted
    difference = float(np.nanmedian([cell.draw(rng)["detectable"].iloc[0] for _ in range(1000)]))
    return replace(cell, draw=lambda r: shifted(r, difference), difference=difference)


def _at_the_margin() -> Iterator[Cell]:
    for n in (500, 1000, 3560):
        for share in (0.05, 0.1):
            yield Cell(
                f"at the margin | n {n} | discordant {share}",
                single(lambda rng, n=n, s=share: draw_discordant(rng, n, s, MARGIN)),
                MARGIN,
                FRAGILE[:1],
            )


def _clean_gaps() -> Iterator[Cell]:
    """The candidate has fewer right before an attack that breaks both arms' alike: never fragility."""
    for n in (500, 1000, 3560):
        for gap in (0.02, 0.05):
            for rate in (0.1, 0.5):
                truth = Truth(clean_gap=gap, success_rate=rate)
                yield Cell(
                    f"clean gap {gap} | n {n} | success rate {rate}",
                    single(lambda rng, n=n, t=truth: draw_outcomes(rng, n, t)),
                    None,
                )


def _groups() -> Iterator[Cell]:
    for n in (200, 1000):
        yield Cell(
            f"groups of 1 to 5 | {n} groups",
            single(lambda rng, n=n: draw_grouped(rng, rng.integers(1, 6, n), 0.15, 0, 0.3)),
        )
    for count in (5, 12, 30):
        sizes = np.full(count, 60)
        yield Cell(f"{count} groups of 60", single(lambda rng, s=sizes: draw_grouped(rng, s, 0.1, 0, 0.3)))
        yield Cell(
            f"{count} groups of 60 | at the margin",
            single(lambda rng, s=sizes: draw_grouped(rng, s, 0.06, MARGIN, 0.5)),
            MARGIN,
            FRAGILE[:1],
        )
    yield from _detectable(
        "200 groups of 1 to 5",
        lambda rng, d: verdicts([rates(draw_grouped(rng, rng.integers(1, 6, 200), d + 0.1, d, 0.2))]),
    )


def _seeds() -> Iterator[Cell]:
    for seeds in (3, 5):
        for sd in (0.0, 0.01, 0.02, 0.04):
            yield Cell(
                f"{seeds} seeds | seed sd {sd} | n 500",
                lambda rng, s=seeds, sd=sd: verdicts([over_seeds(draw_seed_table(rng, s, 500, sd))]),
            )
    for seeds, sd in ((3, 0.01), (5, 0.01), (5, 0.03)):
        yield from _detectable(
            f"{seeds} seeds | seed sd {sd} | n 1000",
            lambda rng, d, s=seeds, sd=sd: verdicts([over_seeds(draw_seed_table(rng, s, 1000, sd, d))]),
        )


def over_seeds(table: np.ndarray) -> Comparison:
    """As pairs.csv compares a method: here all clean answers are right, so the success rate is the difference."""
    estimate = difference_over_seeds(table)
    nothing = difference_over_seeds(np.zeros_like(table))
    return Comparison(
        labels=LABELS,
        metric="robust_accuracy",
        population="all",
        family=Family.PLANNED,
        n=table.shape[1],
        reference_value=0.5,
        candidate_value=0.5 - float(table.mean()),
        estimate=estimate,
        test="seeds-and-examples",
        p_value=estimate.p_value,
        clean=nothing,
        success=estimate,
        n_seeds=len(table),
        withheld=Reason.TWO_SEEDS if len(table) < 3 else None,
    )


def _incomplete() -> Iterator[Cell]:
    record = make_record(attacks=3)
    settings: dict[str, dict[str, Any]] = {
        "10 % of one arm's rows errored": {"errored": 0.1},
        "10 % of one arm's attacked rows errored": {"errored": 0.1, "of_attacked": True},
        "two of three attacks on one arm alone": {"missing": 2},
    }
    for name, setting in settings.items():
        yield Cell(
            f"{name} | n 1000",
            lambda rng, s=setting: build_pairs(draw_examples(rng, 1000, Truth(), attacks=3, **s), record),
            None,
        )


def _families() -> Iterator[Cell]:
    """Pairs of equal arms on several test sets under several attacks, each with its worst case."""
    for pairs in (1, 3, 12):
        yield Cell(
            f"{pairs} pairs | 3 test sets x 4 attacks | n 300",
            lambda rng, p=pairs: verdicts([each for i in range(p) for each in _family(rng, f"p{i}")]),
            None,
        )
    yield Cell(
        "1 pair | worst case at the floor | 1 test set x 4 attacks | n 300",
        lambda rng: verdicts(list(_family(rng, "p", testsets=1, rate=0.75))),
        None,
    )


def _family(rng: np.random.Generator, pair: str, testsets: int = 3, rate: float = 0.25) -> Iterator[Comparison]:
    for testset in range(testsets):
        members = [draw_outcomes(rng, 300, Truth(success_rate=rate)) for _ in range(4)]
        first = members[0]
        shared = [
            replace(each, reference_clean=first.reference_clean, candidate_clean=first.candidate_clean)
            for each in members
        ]
        shared = [
            replace(e, reference=e.reference & e.reference_clean, candidate=e.candidate & e.candidate_clean)
            for e in shared
        ]
        for number, each in enumerate(shared):
            yield rates(each, pair=pair, testset=f"t{testset}", attack=f"a{number}")
        worst = replace(
            first,
            reference=np.logical_and.reduce([e.reference for e in shared]),
            candidate=np.logical_and.reduce([e.candidate for e in shared]),
        )
        yield rates(worst, pair=pair, testset=f"t{testset}", attack="worst-case")


def _efforts() -> Iterator[Cell]:
    for never in (0.0, 0.5):
        yield Cell(
            f"equal efforts | {never:.0%} never break | n 300",
            lambda rng, q=never: verdicts(efforts(rng, 300, q, 0.0)),
        )
    yield Cell(
        "effort 10 % less | correlation .8 | n 300",
        lambda rng: verdicts(efforts(rng, 300, 0.1, 0.10)),
        None,
        FRAGILE[:1],
    )


def efforts(rng: np.random.Generator, n: int, never: float, less: float) -> list[Comparison]:
    """Effort of an attack that leaves both arms at the floor, which alone has a verdict.

    Log-normal efforts that correlate by .8, rounded to queries; some examples never break on either arm.
    """
    hard = rng.normal(size=n)
    spent = [
        np.round(np.exp(4 + 0.5 * (math.sqrt(0.8) * hard + math.sqrt(0.2) * rng.normal(size=n)))) for _ in range(2)
    ]
    spent = [np.where(rng.random(n) < never, np.inf, each) for each in (spent[0], spent[1] * (1 - less))]
    signs, ranks = less_effort(*spent), signed_effort_ranks(*spent)
    broken = rates(draw_discordant(rng, n, 0.02, 0))
    effort = Comparison(
        labels=LABELS,
        metric="effort",
        population="both_correct",
        family=Family.EFFORT,
        n=n,
        reference_value=0.5,
        candidate_value=0.5,
        estimate=mean_difference(signs),
        test="signed-rank",
        p_value=effort_p_value(ranks, rng=rng),
    )
    return [replace(broken, reference_value=0.01, candidate_value=0.01, p_value=1.0), effort]


def simulate(cell: Cell, runs: int = RUNS) -> dict[str, Any]:
    """Figures of one cell: shares of runs."""
    rng = np.random.default_rng([7, *cell.name.encode()])
    if cell.shifted is not None:
        cell = at_detectable(cell)
    counts = dict.fromkeys(
        ("covered", "with_interval", "false_fragile", "false_equivalent", "true_fragile", "any_verdict"), 0
    )
    started = time.process_time()
    for _ in range(runs):
        rows = cell.draw(rng)
        judged = rows[rows["family"].isin(["planned", "effort"]) & rows["verdict"].notna()]
        asked = judged[judged["family"] == ("effort" if "effort" in cell.name else "planned")]
        said = set(judged["verdict"])
        pairs_wrong = judged[judged["verdict"].isin(FRAGILE) & ~judged["verdict"].isin(cell.fragile)][
            "pair"
        ].nunique()
        counts["false_fragile"] += pairs_wrong
        counts["true_fragile"] += bool(said & set(cell.fragile))
        counts["any_verdict"] += said != {"inconclusive"}
        counts["false_equivalent"] += (
            "equivalent" in said and cell.difference is not None and abs(cell.difference) >= MARGIN
        )
        if cell.difference is not None and len(asked):
            row = asked.iloc[0]
            counts["with_interval"] += 1
            counts["covered"] += row["low"] <= cell.difference <= row["high"]
    n_pairs = rows["pair"].nunique()
    figures: dict[str, Any] = {
        "cell": cell.name,
        "runs": runs,
        "false_fragile": counts["false_fragile"] / (runs * n_pairs),
    }
    if counts["with_interval"]:
        figures["coverage"] = counts["covered"] / counts["with_interval"]
    if cell.difference is not None and abs(cell.difference) >= MARGIN:
        figures["false_equivalent"] = counts["false_equivalent"] / runs
    if cell.fragile:
        figures["power"] = counts["true_fragile"] / runs
    if cell.shifted is not None:
        figures["detectable"] = round(float(cell.difference or 0), 4)
    return figures | {"processor_seconds": round(time.process_time() - started, 1)}


def simulate_named(name: str) -> dict[str, Any]:
    return simulate(next(cell for cell in make_cells() if cell.name == name))


def two_errors(share: float, runs: int) -> float:
    return 2 * math.sqrt(share * (1 - share) / runs)


def problems(figures: dict[str, Any]) -> Iterator[str]:
    """Where a cell does not hold what verdicts promise."""
    runs = figures["runs"]
    if figures.get("coverage", 1.0) < 0.94 - two_errors(0.94, runs):
        yield "coverage"
    if figures["false_fragile"] > 0.05 + two_errors(0.05, runs):
        yield "false_fragile"
    if figures.get("false_equivalent", 0.0) > 0.05:
        yield "false_equivalent"
    if "detectable" in figures and not 0.75 <= figures["power"] <= 0.88:
        yield "power"


def test_verdicts_keep_their_promises_in_every_simulated_setting(
    save_result: Callable[[str, dict[str, Any]], None],
) -> None:
    names = [cell.name for cell in make_cells()]
    assert len(names) == len(set(names)) <= 80

    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows = list(pool.map(simulate_named, names))

    save_result("statistics", {"runs": RUNS, "cells": rows})
    found = {row["cell"]: list(problems(row)) for row in rows}
    assert not {name: what for name, what in found.items() if what}
