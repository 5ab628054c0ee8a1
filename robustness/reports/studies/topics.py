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
from robustness.reports.studies.scores import POOLED, StudyScores
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
    """What a study found of a claim."""

    claim: Claim
    status: Status
    findings: tuple[Finding, ...]
    """None where the study lacks what the claim needs."""
    lacking: str = ""
    """What it lacks; empty with findings."""


@dataclass(frozen=True, slots=True)
class _Estimated:
    """A finding before the level of its interval is known."""

    about: str
    estimate: Estimate
    reach: float = 1.0
    """What the interval is multiplied by before it is held against the margin: the range of doses."""


@dataclass(frozen=True, slots=True)
class _Results:
    """What the claims are held against."""

    scores: StudyScores
    trends: Sequence[DoseTrend]
    measured: Sequence[Measured]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the paper, and how a study decides it."""

    name: str
    statement: str
    quantity: str
    """What is estimated; a claim is decided by intervals of it."""
    supported: str
    """When an interval supports the claim."""
    contradicted: str
    find_lack: Callable[[_Results], str]
    """What a study without findings lacks."""
    estimates: Callable[[_Results], Iterator[_Estimated]]
    judge: Callable[[Interval, float], Status]
    """Of an interval, and what it is multiplied by before it is held against the margin."""
    unit: str = "points"
    is_of_all: bool = False
    """Whether every interval must support the claim, and one contradicts it; else one decides if none disagrees."""

    @property
    def rule(self) -> str:
        """What is estimated, and what supports and contradicts the claim."""
        return f"{self.quantity} Supported if {self.supported}, contradicted if {self.contradicted}."

    def decide(self, results: _Results) -> Topic:
        """Returns what a study found of the claim; its intervals hold together at level 1 - alpha."""
        found = list(self.estimates(results))
        level = 1 - ALPHA / max(1, len(found))
        findings = []
        for each in found:
            interval = each.estimate.interval(level=level)
            status = self.judge(interval, each.reach)
            findings.append(Finding(each.about, each.estimate.difference, interval, status))
        lacking = "" if findings else self.find_lack(results)
        return Topic(self, self._combine({each.status for each in findings}), tuple(findings), lacking)

    def _combine(self, statuses: set[Status]) -> Status:
        if self.is_of_all and Status.CONTRADICTED in statuses:
            return Status.CONTRADICTED
        decided = statuses if self.is_of_all else statuses - {Status.UNDECIDED}
        return next(iter(decided)) if len(decided) == 1 else Status.UNDECIDED


def judge_topics(scores: StudyScores, trends: Sequence[DoseTrend], measured: Sequence[Measured]) -> tuple[Topic, ...]:
    """Returns the five topics in the paper's order.

    They are claims on PEFT alone, so methods with a defence added to their training do not count. Intervals of a
    topic hold together: with k of them, each is at level 1 - .05 / k. They are of pooled robust accuracy unless said,
    from at least three training seeds.
    """
    results = _Results(scores, trends, measured)
    return tuple(claim.decide(results) for claim in CLAIMS)


def _is_positive(interval: Interval, reach: float) -> Status:
    """Contradicted where even the upper end is within the margin."""
    if interval.high * reach <= MARGIN:
        return Status.CONTRADICTED
    return Status.SUPPORTED if interval.low > 0 else Status.UNDECIDED


def _is_negative(interval: Interval, _: float) -> Status:
    if interval.high < 0:
        return Status.SUPPORTED
    return Status.CONTRADICTED if interval.low > 0 else Status.UNDECIDED


def _is_not_negative(interval: Interval, _: float) -> Status:
    """Supported where even the lower end is within the margin."""
    if interval.low > -MARGIN:
        return Status.SUPPORTED
    return Status.CONTRADICTED if interval.high < 0 else Status.UNDECIDED


def _differences(results: _Results) -> Iterator[_Estimated]:
    for about, found in _compared(results.scores, Matching.BEST):
        yield _Estimated(about, found.estimate)


def _slopes(results: _Results) -> Iterator[_Estimated]:
    for each in _primary(results.trends):
        yield _Estimated(_about(each), each.slope.estimate, float(np.ptp(each.doses)))


def _curvatures(results: _Results) -> Iterator[_Estimated]:
    for each in _primary(results.trends):
        curvature = curvature_over_seeds(each.measured.values, each.doses, each.measured.seeds)
        if curvature.parts:
            yield _Estimated(_about(each), curvature)


def _gaps_over_rows(results: _Results) -> Iterator[_Estimated]:
    blocks = [block for block in results.scores.blocks if block.matching is Matching.BEST]
    for task in dict.fromkeys(block.task for block in blocks):
        pooled = [
            each
            for each in results.measured
            if (each.task, each.testset, each.measure) == (task, POOLED, Measure.ROBUST)
        ]
        arms = [arm for block in blocks if block.task == task for arm in block.arms]
        for method, mine in method_arms([arm for arm in arms if arm.is_plain_peft]).items():
            found = _gap_over_rows(pooled[0], [arm for arm in arms if arm.is_full], mine) if pooled else None
            if found is not None:
                yield replace(found, about=f"{task}, {method}")


def _success_rates(results: _Results) -> Iterator[_Estimated]:
    for about, found in _compared(results.scores, _matching_of_success(results)):
        if found.known is not None and found.known.success.parts:
            n = found.known.n
            of = "" if n == found.n else f" ({n:,} of {found.n:,} examples, whose clean answers are known)"
            yield _Estimated(about + of, found.known.success)


def _matching_of_success(results: _Results) -> Matching:
    """Epochs matched on clean score where a study has these."""
    matchings = {block.matching for block in results.scores.blocks}
    return Matching.CLEAN if Matching.CLEAN in matchings else Matching.BEST


def _always(words: str) -> Callable[[_Results], str]:
    return lambda _: words


def _lack_of_success(results: _Results) -> str:
    compared = [found for _, found in _compared(results.scores, _matching_of_success(results))]
    if not compared:
        return "an attack under which a method and full fine-tuning have three common training seeds"
    if all(found.known is None for found in compared):
        return "known answers to the clean texts, which tell fragility from a gap in clean accuracy"
    return "examples that a method and full fine-tuning both answer rightly before the attack"


def _gap_over_rows(
    pooled: Measured, full: Sequence[StudyCheckpoint], method: Sequence[StudyCheckpoint]
) -> _Estimated | None:
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
    return _Estimated("", slope.estimate, float(np.ptp(doses))) if slope.estimate.parts else None


def _compared(scores: StudyScores, matching: Matching) -> Iterator[tuple[str, MethodDifference]]:
    """Pooled differences of methods with enough seeds, named."""
    blocks = [block for block in scores.blocks if block.matching is matching]
    for block in blocks:
        cell = next((each for each in scores.of(block) if each.testset == POOLED), None)
        full = [arm for arm in block.arms if arm.is_full]
        for method, arms in method_arms(block.arms).items() if cell is not None else ():
            if cell is not None and arms[0].is_plain_peft:
                compared = compare_with_full(cell, full, [arm for arm in arms if arm in cell.arms])
                if compared is not None and len(compared.seeds) >= MIN_SEEDS:
                    rows = f", {block.rows:,.0f} rows" if len({each.rows for each in blocks}) > 1 else ""
                    matched = ", matched on clean score" if matching is Matching.CLEAN else ""
                    yield f"{block.task}, {method}{rows}{matched}", compared


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


CLAIMS = (
    Claim(
        name="Subset",
        statement="PEFT reaches a strict subset of what full fine-tuning reaches, so it is at most as robust.",
        quantity="Full minus method. Nested parameters order what can be reached; this looks at trained checkpoints.",
        supported="no method can be better than full by more than 2 points",
        contradicted="one method is better",
        find_lack=_always("a method and full fine-tuning with three common training seeds"),
        estimates=_differences,
        judge=_is_not_negative,
        is_of_all=True,
    ),
    Claim(
        name="Capacity",
        statement="The bounded capacity of PEFT limits its robustness.",
        quantity="Slope per doubling of a method's trainable parameters.",
        supported="above 0",
        contradicted="the whole range of sizes gains at most 2 points",
        find_lack=_always("a method of three sizes and three training seeds"),
        estimates=_slopes,
        judge=_is_positive,
        unit="points per doubling",
    ),
    Claim(
        name="Further parameters",
        statement="Further trainable parameters help PEFT less and less.",
        quantity="Curvature over doublings, of these test examples.",
        supported="below 0: each doubling adds less than the one before",
        contradicted="above 0",
        find_lack=_always("a method of four sizes and three training seeds"),
        estimates=_curvatures,
        judge=_is_negative,
        unit="points per doubling squared",
    ),
    Claim(
        name="Further data",
        statement="Further training rows help PEFT less than full fine-tuning.",
        quantity="Slope per doubling of the rows, of full minus method.",
        supported="above 0",
        contradicted="the gap grows by at most 2 points over the whole range of rows",
        find_lack=_always("three numbers of training rows, each with three training seeds"),
        estimates=_gaps_over_rows,
        judge=_is_positive,
        unit="points per doubling",
    ),
    Claim(
        name="Perturbation",
        statement="PEFT is more sensitive to perturbation than full fine-tuning.",
        quantity="How much more often a method breaks than full, of the examples that both have right.",
        supported="above 0",
        contradicted="it can be at most 2 points",
        find_lack=_lack_of_success,
        estimates=_success_rates,
        judge=_is_positive,
    ),
)
"""The five topics, in the paper's order."""
