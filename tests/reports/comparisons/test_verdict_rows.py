"""What a family of planted comparisons becomes: adjusted p-values, levels, gates and the reasons of verdicts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from robustness.reports.comparisons.comparison import Comparison, Family
from robustness.reports.comparisons.families import give_verdicts
from robustness.runs.storage.record import StatisticsRecord
from robustness.stats import Estimate, detectable_difference
from robustness.stats.estimates import Part

ALPHA = 0.05
GAP = Estimate(0.05, 0.05, (Part(0.0004, math.inf),))
"""5 points, and an interval from 1 to 9."""
UNSURE = Estimate(0.03, 0.03, (Part(0.0004, math.inf),))
"""3 points, and an interval that holds 0 and exceeds the margin."""


def planted(testset: str, attack: str, p_value: float, **facts: Any) -> Comparison:
    known: dict[str, Any] = {
        "metric": "robust_accuracy",
        "population": "all",
        "family": Family.PLANNED,
        "n": 1000,
        "reference_value": 0.5,
        "candidate_value": 0.45,
        "estimate": GAP,
        "test": "mcnemar-exact",
        "rarer_share": 0.05,
        "success": UNSURE,
    }
    return Comparison({"pair": "p", "testset": testset, "attack": attack}, p_value=p_value, **known | facts)


def words(table: pd.DataFrame, column: str) -> list[str]:
    """A column, empty where it says nothing."""
    return table[column].fillna("").tolist()


def gated(*, at_floor: bool) -> list[Comparison]:
    """A worst case that finds nothing, over two attacks that do."""
    rates = {"reference_value": 0.02, "candidate_value": 0.03} if at_floor else {}
    return [
        planted("t", "worst-case", 0.9, estimate=UNSURE, **rates),
        planted("t", "a", 0.012, estimate=UNSURE),
        planted("t", "b", 0.04, estimate=UNSURE),
    ]


def test_the_false_discovery_rate_too_calls_no_attack_behind_a_closed_gate() -> None:
    """Benjamini and Hochberg's p-values of .012, .04 and .9 are .036, .06 and .9; behind the gate they are all .9."""
    flat = StatisticsRecord(correction="benjamini-hochberg")

    closed, opened = (give_verdicts(gated(at_floor=at_floor), flat) for at_floor in (False, True))

    assert closed["p_adjusted"].tolist() == pytest.approx([0.9, 0.9, 0.9])
    assert opened["p_adjusted"].tolist() == pytest.approx([0.9, 0.036, 0.06])


def test_a_gate_is_the_reason_only_where_it_is_closed() -> None:
    closed, opened = (give_verdicts(gated(at_floor=at_floor), StatisticsRecord()) for at_floor in (False, True))

    assert words(closed, "reason") == ["", "gate", "gate"]
    assert words(opened, "reason") == ["floor", "", ""]
    assert closed["verdict"].tolist() == opened["verdict"].tolist() == ["inconclusive"] * 3


def test_a_gate_that_finds_something_is_no_reason() -> None:
    """At exactly alpha the worst case is significant; behind it .04 of two attacks is adjusted to .08."""
    attacks = [planted("t", attack, 0.04, estimate=UNSURE) for attack in "ab"]

    table = give_verdicts([planted("t", "worst-case", ALPHA), *attacks], StatisticsRecord())

    assert words(table, "reason") == ["clean-unknown", "", ""]
    assert table["p_adjusted"].tolist()[1:] == pytest.approx([0.08, 0.08])


def test_what_is_detectable_is_said_at_the_level_at_which_each_test_starts() -> None:
    """Three test sets share alpha; an open gate keeps half of its share. Nothing is found behind a closed one."""
    floor = {"reference_value": 0.02, "candidate_value": 0.03}
    rows = [
        planted("open", "worst-case", 0.5, **floor),
        *(planted("open", attack, 0.5) for attack in "ab"),
        planted("closed", "worst-case", 0.5),
        *(planted("closed", attack, 0.5) for attack in "abc"),
        planted("alone", "a", 0.5),
    ]

    table = give_verdicts(rows, StatisticsRecord())

    share = ALPHA / 3
    levels = [share / 2, share / 4, share / 4, share, share]
    assert table["detectable"].dropna().tolist() == [
        detectable_difference(1000, 0.05, alpha=level) for level in levels
    ]
    assert table["detectable"].isna().tolist() == [False] * 4 + [True] * 3 + [False]


def test_the_false_discovery_rate_starts_every_test_at_its_even_share() -> None:
    """Alone among n p-values that are not small, one is found by Benjamini and Hochberg at alpha / n or below."""
    rows = [planted("open", "worst-case", 0.5, reference_value=0.02, candidate_value=0.03)]
    rows += [planted("open", attack, 0.5) for attack in "ab"]
    rows += [planted("alone", "a", 0.5)]

    table = give_verdicts(rows, StatisticsRecord(correction="benjamini-hochberg"))

    assert table["detectable"].tolist() == [detectable_difference(1000, 0.05, alpha=ALPHA / 4)] * 4


def test_families_without_gates_share_their_level_evenly_and_controls_keep_it() -> None:
    explored = [planted("t", attack, 0.02, family=Family.EXPLORED) for attack in ("worst-case", "a", "b", "c")]
    controls = [planted("t", attack, 0.02, family=Family.CONTROL) for attack in ("none", "identity")]

    table = give_verdicts([*explored, *controls], StatisticsRecord())

    levels = [ALPHA / 4] * 4 + [ALPHA] * 2
    assert table["detectable"].tolist() == [detectable_difference(1000, 0.05, alpha=level) for level in levels]
    assert table["p_adjusted"].tolist() == pytest.approx([0.08] * 4 + [math.nan] * 2, nan_ok=True)


def test_without_a_margin_nothing_is_tested_for_equivalence_and_effort_never_is() -> None:
    rows = [planted("t", "a", 0.5), planted("t", "a", 0.5, metric="effort", family=Family.EFFORT)]

    with_margin, without = (give_verdicts(rows, StatisticsRecord(margin=margin)) for margin in (0.02, 0.0))

    # Of two one-sided normal tests that of a difference over the margin is the larger: z = (0.02 - 0.05) / 0.02.
    tail = 0.5 * math.erfc(-1.5 / math.sqrt(2))
    assert with_margin["p_equivalence"].tolist() == pytest.approx([tail, math.nan], nan_ok=True)
    assert without["p_equivalence"].isna().all()


def test_effort_has_a_verdict_only_where_its_own_attack_leaves_both_arms_at_the_floor() -> None:
    floor = {"reference_value": 0.02, "candidate_value": 0.03, "estimate": UNSURE}
    ceiling = {"reference_value": 0.98, "candidate_value": 0.97, "estimate": UNSURE}
    effort: dict[str, Any] = {"metric": "effort", "family": Family.EFFORT}
    places = [("t", "a", floor), ("t", "b", {}), ("t", "c", ceiling), ("u", "a", {})]
    rows = [planted(testset, attack, 0.5, **facts) for testset, attack, facts in places]
    rows += [planted(testset, attack, 1e-9, **effort) for testset, attack, _ in places]
    # A control at the floor is no attack whose rates are judged.
    rows += [planted("t", "random", 0.5, family=Family.CONTROL, **floor), planted("t", "random", 1e-9, **effort)]

    table = give_verdicts(rows, StatisticsRecord())

    assert table["reason"].iloc[[0, 2, 8]].tolist() == ["floor", "ceiling", "floor"]
    assert words(table, "verdict")[4:8] == ["candidate-more-fragile", "", "", ""]
    assert words(table, "verdict")[9] == ""


def test_effort_is_called_by_its_interval_and_its_adjusted_p_value() -> None:
    floor = {"reference_value": 0.02, "candidate_value": 0.03, "estimate": UNSURE}
    fewer = Estimate(-0.05, -0.05, GAP.parts)
    given = [(GAP, ALPHA / 4), (fewer, ALPHA / 4), (UNSURE, ALPHA / 4), (GAP, 0.06)]
    rows = [planted("t", attack, 0.5, **floor) for attack in "abcd"]
    rows += [
        planted("t", attack, p_value, metric="effort", family=Family.EFFORT, estimate=estimate)
        for attack, (estimate, p_value) in zip("abcd", given, strict=True)
    ]

    found = give_verdicts(rows, StatisticsRecord())["verdict"].iloc[4:].tolist()

    assert found == ["candidate-more-fragile", "reference-more-fragile", "inconclusive", "inconclusive"]


def test_a_comparison_has_no_verdict_once_more_is_left_out_than_kept() -> None:
    half = planted("t", "a", 1e-9, n=1000, n_left_out=1000, test="post-stratified")

    table = give_verdicts([half, replace(half, n_left_out=1001)], StatisticsRecord())

    assert words(table, "reason") == ["clean-unknown", "left-out"]


def test_few_may_be_left_out_where_those_kept_do_not_stand_for_them() -> None:
    kept = planted("t", "a", 1e-9, n=950, n_left_out=50, family=Family.CONTROL, is_clean=True)

    table = give_verdicts([kept, replace(kept, n_left_out=51)], StatisticsRecord())

    assert table["verdict"].tolist() == ["less-accurate", "inconclusive"]
    assert words(table, "reason") == ["", "left-out"]


def test_a_floor_is_told_of_enough_examples_that_an_attack_brought_there() -> None:
    floor = {"reference_value": 0.0, "candidate_value": 0.0, "estimate": UNSURE}
    rows = [planted("t", "a", 1.0, n=30, **floor), planted("u", "a", 1.0, n=29, **floor)]
    rows.append(planted("v", "a", 1.0, **floor | {"success": Estimate(math.nan, math.nan)}))

    assert words(give_verdicts(rows, StatisticsRecord()), "reason") == ["floor", "", ""]
