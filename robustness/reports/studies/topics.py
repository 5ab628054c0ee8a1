"""The five topics of arXiv 2505.22355, each decided by a rule on intervals of this study."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from robustness.reports.comparisons.seeds import MIN_SEEDS
from robustness.reports.studies.differences import MethodDifference, compare_with_full
from robustness.reports.studies.folder import Matching, StudyCheckpoint
from robustness.reports.studies.measures import Measure, Measured
from robustness.reports.studies.scores import POOLED, Block, StudyScores
from robustness.reports.studies.table import ALPHA, MARGIN, method_arms
from robustness.reports.studies.trends import Dose, DoseTrend, slope_of
from robustness.stats import Estimate, Interval, curvature_over_seeds


class Status(StrEnum):
    """What a study says of a topic, or an interval of it."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """One interval that bears on a topic."""

    about: str
    """Task and method or series."""
    value: float
    interval: Interval
    """At the level that makes all findings of the topic hold together."""
    status: Status


@dataclass(frozen=True, slots=True)
class Topic:
    """A claim, how this study asks about it, and what it found."""

    name: str
    claim: str
    rule: str
    status: Status
    findings: tuple[Finding, ...]
    missing: str = ""
    """What the study would need; empty where it has findings."""


@dataclass(frozen=True, slots=True)
class _Raw:
    """A finding before the level of its interval is known."""

    about: str
    estimate: Estimate
    reach: float = 1.0
    """What the interval is multiplied by before it is held against the margin: the range of doses."""


Judge = Callable[[Interval, _Raw], Status]


def judge_topics(scores: StudyScores, trends: Sequence[DoseTrend], measured: Sequence[Measured]) -> tuple[Topic, ...]:
    """Returns the five topics in the paper's order.

    They are claims on PEFT alone, so methods with a defence added to their training do not count. Intervals of a
    topic hold together: with k of them, each is at level 1 - .05 / k. They are of pooled robust accuracy unless said,
    from at least three training seeds.
    """
    blocks = [block for block in scores.blocks if block.matching is Matching.BEST]
    return (
        _subset(scores, blocks),
        _capacity(trends),
        _parameters(trends),
        _data(blocks, measured),
        _perturbation(scores),
    )


def _subset(scores: StudyScores, blocks: Sequence[Block]) -> Topic:
    raw = [_Raw(about, found.estimate) for about, found in _differences(scores, blocks)]

    def judge(interval: Interval, _: _Raw) -> Status:
        if interval.low > -MARGIN:
            return Status.SUPPORTED
        return Status.CONTRADICTED if interval.high < 0 else Status.UNDECIDED

    findings = _findings(raw, judge)
    statuses = {each.status for each in findings}
    status = Status.CONTRADICTED if Status.CONTRADICTED in statuses else Status.UNDECIDED
    return Topic(
        name="Subset",
        claim="PEFT reaches a strict subset of what full fine-tuning reaches, so it is at most as robust.",
        rule="Full minus method. Supported if no method can be better than full by more than 2 points, contradicted "
        "if one is better. Nested parameters order what can be attained; this looks at trained checkpoints.",
        status=Status.SUPPORTED if statuses == {Status.SUPPORTED} else status,
        findings=findings,
        missing="" if findings else "a method and full fine-tuning with three common training seeds",
    )


def _capacity(trends: Sequence[DoseTrend]) -> Topic:
    raw = [_Raw(_about(each), each.slope.estimate, _reach(each)) for each in _primary(trends)]
    findings = _findings(raw, _rises)
    return Topic(
        name="Capacity",
        claim="The bounded capacity of PEFT limits its robustness.",
        rule="Slope per doubling of a method's trainable parameters. Supported if above 0, contradicted if the whole "
        "range of sizes gains at most 2 points.",
        status=_combine(findings),
        findings=findings,
        missing="" if findings else "a method of three sizes and three training seeds",
    )


def _parameters(trends: Sequence[DoseTrend]) -> Topic:
    raw = []
    for each in _primary(trends):
        curvature = curvature_over_seeds(each.measured.values, each.doses, each.measured.seeds)
        if curvature.parts:
            raw.append(_Raw(_about(each), curvature))

    def judge(interval: Interval, _: _Raw) -> Status:
        if interval.high < 0:
            return Status.SUPPORTED
        return Status.CONTRADICTED if interval.low > 0 else Status.UNDECIDED

    findings = _findings(raw, judge)
    return Topic(
        name="Further parameters",
        claim="Further trainable parameters help PEFT less and less.",
        rule="Curvature over doublings, of these test examples. Supported if below 0: each doubling adds less than "
        "the one before. Contradicted if above 0.",
        status=_combine(findings),
        findings=findings,
        missing="" if findings else "a method of four sizes and three training seeds",
    )


def _data(blocks: Sequence[Block], measured: Sequence[Measured]) -> Topic:
    raw = []
    for task in dict.fromkeys(block.task for block in blocks):
        pooled = [
            each for each in measured if (each.task, each.testset, each.measure) == (task, POOLED, Measure.ROBUST)
        ]
        arms = [arm for block in blocks if block.task == task for arm in block.arms]
        for method, mine in method_arms([arm for arm in arms if arm.is_plain_peft]).items():
            found = _gap_over_rows(pooled[0], [arm for arm in arms if arm.is_full], mine) if pooled else None
            if found is not None:
                raw.append(replace(found, about=f"{task}, {method}"))
    findings = _findings(raw, _rises)
    return Topic(
        name="Further data",
        claim="Further training rows help PEFT less than full fine-tuning.",
        rule="Slope per doubling of the rows, of full minus method. Supported if above 0, contradicted if over the "
        "whole range of rows the gap grows by at most 2 points.",
        status=_combine(findings),
        findings=findings,
        missing="" if findings else "three numbers of training rows, each with three training seeds",
    )


def _gap_over_rows(
    pooled: Measured, full: Sequence[StudyCheckpoint], method: Sequence[StudyCheckpoint]
) -> _Raw | None:
    """The slope of full minus method over log2 of the rows; None with too few."""
    partners = {(arm.train_seed, arm.rows): arm for arm in full if arm in pooled.arms}
    arms = [arm for arm in method if arm in pooled.arms and (arm.train_seed, arm.rows) in partners]
    if pooled.table is None or not arms:
        return None
    places = [pooled.arms.index(arm) for arm in arms]
    others = [pooled.arms.index(partners[arm.train_seed, arm.rows]) for arm in arms]
    table = pooled.table[others] - pooled.table[places]
    gap = replace(pooled, arms=tuple(arms), table=table, values=table.mean(axis=1))
    doses = np.log2([arm.rows for arm in arms])
    slope = slope_of(gap, doses)
    return _Raw("", slope.estimate, float(np.ptp(doses))) if slope.estimate.parts else None


def _perturbation(scores: StudyScores) -> Topic:
    has_matched = any(block.matching is Matching.CLEAN for block in scores.blocks)
    wanted = Matching.CLEAN if has_matched else Matching.BEST
    blocks = [block for block in scores.blocks if block.matching is wanted]
    found = _differences(scores, blocks)
    raw = [_Raw(about, each.success) for about, each in found if each.success is not None and each.success.parts]

    def judge(interval: Interval, _: _Raw) -> Status:
        if interval.high <= MARGIN:
            return Status.CONTRADICTED
        return Status.SUPPORTED if interval.low > 0 else Status.UNDECIDED

    findings = _findings(raw, judge)
    beside = ", with epochs matched on clean score" if has_matched else ""
    return Topic(
        name="Perturbation",
        claim="PEFT is more sensitive to perturbation than full fine-tuning.",
        rule=f"How much more often a method breaks than full, of the examples that both have right{beside}. "
        "Supported if above 0, contradicted if it can be at most 2 points.",
        status=_combine(findings),
        findings=findings,
        missing="" if findings else "attacks, and three common training seeds of a method and full fine-tuning",
    )


def _rises(interval: Interval, raw: _Raw) -> Status:
    if interval.high * raw.reach <= MARGIN:
        return Status.CONTRADICTED
    return Status.SUPPORTED if interval.low > 0 else Status.UNDECIDED


def _differences(scores: StudyScores, blocks: Sequence[Block]) -> list[tuple[str, MethodDifference]]:
    """Pooled differences of methods with enough seeds, named."""
    found = []
    for block in blocks:
        cell = next((each for each in scores.of(block) if each.testset == POOLED), None)
        full = [arm for arm in block.arms if arm.is_full]
        for method, arms in method_arms(block.arms).items() if cell is not None else ():
            if cell is not None and arms[0].is_plain_peft:
                compared = compare_with_full(cell, full, [arm for arm in arms if arm in cell.arms])
                if compared is not None and len(compared.seeds) >= MIN_SEEDS:
                    rows = f", {block.rows:,.0f} rows" if len({each.rows for each in blocks}) > 1 else ""
                    found.append((f"{block.task}, {method}{rows}", compared))
    return found


def _primary(trends: Sequence[DoseTrend]) -> Iterator[DoseTrend]:
    """Pooled robust accuracy over parameters, at each method's best epoch, where values are off floor and ceiling."""
    for each in trends:
        is_asked = each.series.dose is Dose.PARAMETERS and each.series.matching is Matching.BEST
        is_plain = all(arm.is_plain_peft for arm in each.series.arms)
        is_pooled = each.measured.is_pooled and each.measured.measure is Measure.ROBUST
        if is_asked and is_plain and is_pooled and each.slope.estimate.parts and each.edge is None:
            yield each


def _about(trend: DoseTrend) -> str:
    rows = "" if math.isnan(trend.series.rows) else f", {trend.series.rows:,.0f} rows"
    return f"{trend.series.task}, {trend.series.name}{rows}"


def _reach(trend: DoseTrend) -> float:
    return float(np.ptp(trend.doses))


def _findings(raw: Sequence[_Raw], judge: Judge) -> tuple[Finding, ...]:
    level = 1 - ALPHA / max(1, len(raw))
    made = []
    for each in raw:
        interval = each.estimate.interval(level=level)
        made.append(Finding(each.about, each.estimate.difference, interval, judge(interval, each)))
    return tuple(made)


def _combine(findings: Sequence[Finding]) -> Status:
    """Supported by one and contradicted by none, or the other way; undecided where findings disagree."""
    statuses = {each.status for each in findings} - {Status.UNDECIDED}
    return statuses.pop() if len(statuses) == 1 else Status.UNDECIDED
