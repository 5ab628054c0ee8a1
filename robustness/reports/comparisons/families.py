"""Comparisons to table rows: p-values adjusted within families, verdicts, and what the samples could have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from robustness.reports.comparisons.comparison import POST_STRATIFIED, Comparison, Family
from robustness.runs.cells import WORST_CASE
from robustness.runs.storage.record import StatisticsRecord
from robustness.stats import (
    Branch,
    Correction,
    Judgement,
    Reason,
    Verdict,
    adjust,
    detectable_by_estimate,
    detectable_difference,
    gatekeep,
    judge,
)
from robustness.stats.verdicts import at_edge

MID_P = "mcnemar-mid-p"
TOLERATED_SHARE = 0.05
"""Of examples without an outcome, where those kept do not stand for them: errors befall what is attacked."""
MIN_AT_EDGE = 30
"""Fewer examples are all wrong or all right by chance too often."""
UNJUDGED = Family.SECONDARY
"""The family whose rows have no verdict: a verdict is on robust accuracy."""


def give_verdicts(comparisons: Sequence[Comparison], statistics: StatisticsRecord) -> pd.DataFrame:
    """Returns the rows in the order given, with p-values adjusted within each pair's families, and verdicts.

    The planned family of a pair has the worst case of each test set as gatekeeper. No single attack on it is called
    unless the worst case is (`robustness.stats.gatekeep`). Where both arms are at the floor or
    the ceiling it says nothing. Then its attacks are still tested for half of the test set's share. Other families
    are adjusted flat. Effort has a verdict only where its attack leaves both arms at the floor. Elsewhere the rates
    have it: two verdicts would be two chances of a false one. `detectable` is the true difference found with power
    0.8 at the family's strictest level.
    """
    rows: list[dict[str, object]] = [{}] * len(comparisons)
    members: dict[tuple[object, Family], list[int]] = {}
    for place, comparison in enumerate(comparisons):
        members.setdefault((comparison.labels["pair"], comparison.family), []).append(place)
    for (_, family), places in members.items():
        mine = [_with_chosen_test(comparisons[place], statistics) for place in places]
        p_values = np.array([each.p_value for each in mine])
        branches = _branches(mine) if family is Family.PLANNED else [Branch(None, (i,)) for i in range(len(mine))]
        adjusted = _adjust(p_values, branches, family, statistics)
        levels = _strictest_levels(branches, len(mine), family, statistics)
        closed = _behind_closed_gates(branches, adjusted, statistics.alpha)
        for i, place in enumerate(places):
            judgement = _judge(mine[i], float(adjusted[i]), statistics, behind_gate=i in closed)
            rows[place] = _row(mine[i], judgement, statistics) | {
                "p_adjusted": adjusted[i],
                "detectable": math.nan if i in closed else _detectable(mine[i], levels[i]),
            }
    floors = {_place(row) for row in rows if row["reason"] == Reason.FLOOR and row["family"] == Family.PLANNED}
    for row in rows:
        if row["family"] == Family.EFFORT and _place(row) not in floors:
            row["verdict"] = None
    return pd.DataFrame(rows)


def _place(row: Mapping[str, object]) -> tuple[object, object, object]:
    return row["pair"], row["testset"], row["attack"]


def _with_chosen_test(comparison: Comparison, statistics: StatisticsRecord) -> Comparison:
    if statistics.mcnemar == "exact" or math.isnan(comparison.p_mid):
        return comparison
    return replace(comparison, test=MID_P, p_value=comparison.p_mid)


def _branches(comparisons: Sequence[Comparison]) -> list[Branch]:
    """One a test set; without a worst case each of its rows is a branch of its own."""
    by_testset: dict[object, list[int]] = {}
    for place, comparison in enumerate(comparisons):
        by_testset.setdefault(comparison.labels["testset"], []).append(place)
    found: list[Branch] = []
    for places in by_testset.values():
        gate = next((i for i in places if comparisons[i].labels["attack"] == WORST_CASE), None)
        members = tuple(i for i in places if i != gate and _is_attack(comparisons[i])) if gate is not None else ()
        if gate is not None:
            is_open = at_edge(comparisons[gate].reference_value, comparisons[gate].candidate_value) is not None
            found.append(Branch(gate, members, is_open))
        found += [Branch(None, (i,)) for i in places if i != gate and i not in members]
    return found


def _is_attack(comparison: Comparison) -> bool:
    return comparison.metric == "robust_accuracy"


def _adjust(
    p_values: np.ndarray, branches: Sequence[Branch], family: Family, statistics: StatisticsRecord
) -> np.ndarray:
    if family is Family.CONTROL:
        return np.full(len(p_values), np.nan)
    correction = Correction(statistics.correction)
    if family is Family.PLANNED and correction is Correction.HOLM:
        return gatekeep(p_values, branches)
    adjusted = adjust(p_values, correction)
    for branch in branches:
        if branch.gate is not None and not branch.is_open:
            gate = adjusted[branch.gate]
            for member in branch.members:
                adjusted[member] = np.fmax(adjusted[member], gate)
    return adjusted


def _strictest_levels(
    branches: Sequence[Branch], n: int, family: Family, statistics: StatisticsRecord
) -> list[float]:
    """The level at which each test starts; none can be stricter."""
    if family is Family.CONTROL:
        return [statistics.alpha] * n
    levels = [statistics.alpha / n] * n
    is_gatekept = family is Family.PLANNED and Correction(statistics.correction) is Correction.HOLM
    for branch in branches if is_gatekept else ():
        share = statistics.alpha / len(branches)
        half = 0.5 if branch.is_open and branch.members else 1.0
        if branch.gate is not None:
            levels[branch.gate] = share * half
        for member in branch.members:
            levels[member] = share * half / len(branch.members)
    return levels


def _behind_closed_gates(branches: Sequence[Branch], adjusted: np.ndarray, alpha: float) -> set[int]:
    return {
        member
        for branch in branches
        if branch.gate is not None and not branch.is_open and not adjusted[branch.gate] <= alpha
        for member in branch.members
    }


def _judge(
    comparison: Comparison, adjusted: float, statistics: StatisticsRecord, *, behind_gate: bool
) -> Judgement | None:
    if comparison.family is UNJUDGED:
        return None
    if comparison.withheld is not None:
        return Judgement(Verdict.INCONCLUSIVE, comparison.withheld)
    if comparison.n_left_out > _tolerated(comparison):
        return Judgement(Verdict.INCONCLUSIVE, Reason.LEFT_OUT)
    p_counts = comparison.p_value if comparison.family is Family.CONTROL else adjusted
    if comparison.family is Family.EFFORT:
        return _judge_effort(comparison, p_counts, statistics.alpha)
    found = judge(comparison.evidence(p_counts), margin=statistics.margin, alpha=statistics.alpha)
    if found.reason in (Reason.FLOOR, Reason.CEILING) and not _shows_an_edge(comparison):
        found = Judgement(Verdict.INCONCLUSIVE)
    if found == Judgement(Verdict.INCONCLUSIVE) and behind_gate and comparison.p_value <= statistics.alpha:
        return Judgement(Verdict.INCONCLUSIVE, Reason.GATE)
    return found


def _tolerated(comparison: Comparison) -> float:
    """Examples that may lack an outcome: as many as have one where these stand for them, else few."""
    stand_in = comparison.test == POST_STRATIFIED or comparison.family is Family.EFFORT
    return comparison.n if stand_in else TOLERATED_SHARE * (comparison.n + comparison.n_left_out)


def _shows_an_edge(comparison: Comparison) -> bool:
    """Whether the attack brought the arms there: enough examples, some of which both had right."""
    return comparison.n >= MIN_AT_EDGE and comparison.success is not None and bool(comparison.success.parts)


def _judge_effort(comparison: Comparison, p_value: float, alpha: float) -> Judgement:
    """On its scale no margin is known that does not matter, so equivalence is no answer."""
    interval = comparison.estimate.interval()
    if p_value <= alpha and interval.low > 0:
        return Judgement(Verdict.CANDIDATE_MORE_FRAGILE)
    if p_value <= alpha and interval.high < 0:
        return Judgement(Verdict.REFERENCE_MORE_FRAGILE)
    return Judgement(Verdict.INCONCLUSIVE)


def _row(comparison: Comparison, judgement: Judgement | None, statistics: StatisticsRecord) -> dict[str, object]:
    interval = comparison.estimate.interval()
    drop = comparison.drop
    dropped = None if drop is None else drop.interval()
    is_rate = comparison.family is not Family.EFFORT
    return {
        **comparison.labels,
        "metric": comparison.metric,
        "population": comparison.population,
        "aggregation": comparison.aggregation,
        "family": comparison.family.value or None,
        "n": comparison.n,
        "n_left_out": comparison.n_left_out,
        "n_seeds": comparison.n_seeds,
        "reference_value": comparison.reference_value,
        "candidate_value": comparison.candidate_value,
        "difference": comparison.estimate.difference,
        "low": interval.low,
        "high": interval.high,
        "drop_difference": None if drop is None else drop.difference,
        "drop_low": None if dropped is None else dropped.low,
        "drop_high": None if dropped is None else dropped.high,
        "test": comparison.test,
        "p_value": comparison.p_value,
        "verdict": None if judgement is None else judgement.verdict.value,
        "reason": None if judgement is None or judgement.reason is None else judgement.reason.value,
        "p_equivalence": (
            comparison.estimate.p_equivalence(statistics.margin) if is_rate and statistics.margin > 0 else math.nan
        ),
        **comparison.extra,
    }


def _detectable(comparison: Comparison, level: float) -> float:
    if comparison.withheld is not None:
        return math.nan
    if comparison.rarer_share is not None and comparison.test in ("mcnemar-exact", MID_P):
        return detectable_difference(comparison.n, comparison.rarer_share, alpha=level)
    return detectable_by_estimate(
        comparison.estimate, n=comparison.n, rarer_share=comparison.rarer_share, alpha=level
    )
