"""The answers of a study as sentences, by rule."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from robustness.reports.comparisons.methods import FULL
from robustness.reports.studies.folder import Matching, Study
from robustness.reports.studies.measures import Measure
from robustness.reports.studies.properties import PropertyCorrelation
from robustness.reports.studies.scores import POOLED, Block, StudyScores
from robustness.reports.studies.titles import title_pooled
from robustness.reports.studies.topics import Claim, Finding, Topic
from robustness.reports.studies.trends import Dose, DoseTrend
from robustness.reports.summaries.wording import join_words, points, signed, span
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Interval, Reason, Trend, Verdict
from robustness.stats.doses.trends import MIN_DOSES, MIN_SEEDS

MOST_NAMED = 6
"""Methods that a sentence names."""
MOST_HEADLINES = 7
"""Sentences at the head of the page."""
Words = tuple[str, str]
"""What a method is, and what follows; the second part is left out where the sentence has named full fine-tuning."""
WORDS = {
    ("more fragile", " than full fine-tuning"): CANDIDATE_FRAGILE,
    ("less fragile", " than full fine-tuning"): REFERENCE_FRAGILE,
    ("different in clean accuracy", ", which explains the difference under attack"): {Verdict.LESS_ACCURATE},
    ("equivalent within 2 points", " to full fine-tuning"): {Verdict.EQUIVALENT},
    ("not distinguished", " from full fine-tuning"): {Verdict.INCONCLUSIVE},
}
"""Of verdicts."""
REASON_WORDS = {
    Reason.CLEAN_UNKNOWN: (
        "different in robust accuracy",
        ", which may be a gap in clean accuracy, as not all clean answers are known",
    ),
    Reason.TWO_SEEDS: ("without a verdict", ", which needs a third training seed"),
    Reason.LEFT_OUT: ("not judged", " because over 5 % of the examples lack an outcome on some checkpoint"),
}
"""Of reasons that say more than their verdict."""


@dataclass(frozen=True, slots=True)
class StudyAnswers:
    """What a study says, by question."""

    headline: tuple[str, ...]
    """What is read first: sentences on methods and doses, and the topics in one; the others say the same."""
    methods: tuple[str, ...]
    """Every method against full fine-tuning."""
    doses: tuple[str, ...]
    """Trends over parameters and rows."""
    floor: tuple[str, ...]
    topics: tuple[str, ...]
    properties: tuple[str, ...]
    limits: tuple[str, ...]
    """What the study cannot show."""
    caveats: tuple[str, ...]
    """What a reader must know before any number."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All but the headline, in their order on a terminal."""
        said = (self.methods, self.doses, self.floor, self.topics, self.properties, self.limits, self.caveats)
        return tuple(chain.from_iterable(said))


@dataclass(frozen=True, slots=True)
class Findings:
    """What the sentences are made from."""

    study: Study
    scores: StudyScores
    table: pd.DataFrame
    trends: tuple[DoseTrend, ...]
    topics: tuple[Topic, ...]
    properties: tuple[PropertyCorrelation, ...]


def answer_study(found: Findings) -> StudyAnswers:
    """Returns the answers; every number in them is a table's."""
    methods = [list(_on_block(found, block)) for block in found.scores.blocks]
    primary = [each for each in found.trends if each.measured.is_pooled and _is_primary(each)]
    headline = [*(each[0] for each in methods if each), *map(say_trend, primary)]
    return StudyAnswers(
        headline=(*headline[: MOST_HEADLINES - 1], say_statuses(found.topics)),
        methods=tuple(chain.from_iterable(methods)),
        doses=tuple(_on_doses(found)),
        floor=tuple(_on_floor(found)),
        topics=tuple(map(say_topic, found.topics)),
        properties=tuple(_on_properties(found.properties)),
        limits=tuple(_limits(found)),
        caveats=tuple(_caveats(found)),
    )


def _on_block(found: Findings, block: Block) -> Iterator[str]:
    """How many methods have which verdict, unless there is but one; then which these are, by verdict."""
    rows = _pooled_rows(found.table, block.task, block.rows, block.matching)
    rows = rows[(rows["family"] != FULL) & rows["verdict"].notna()]
    if rows.empty:
        return
    groups = list(_by_words(rows))
    cell = title_pooled(found.table, block.task)
    n, n_clean = (int(rows.iloc[0][name]) for name in ("n", "n_clean"))
    known = "" if n_clean == n else f", clean answers known for {f'{n_clean:,}' if n_clean else 'none'}"
    head = f"On {block.label} ({n:,} examples{known}: {cell})"
    if len(rows) > 1:
        counts = [f"{len(mine)} {'is' if len(mine) == 1 else 'are'} {words[0]}" for mine, words in groups]
        counts[0] += groups[0][1][1]
        yield f"{head}: of {len(rows)} methods {join_words(counts)}."
        head = f"On {block.label}"
    for mine, words in groups:
        yield f"{head}: {_named(mine)} {'is' if len(mine) == 1 else 'are'} {''.join(words)}."
    if (rows["n_seeds"] == 1).all():
        yield f"On {block.label}: with one training seed this is of checkpoints, not of methods."


def _by_words(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, Words]]:
    """Groups of rows with the words for them; none is empty."""
    told = rows["reason"].isin(list(REASON_WORDS))
    groups = [(rows[~told & rows["verdict"].isin(verdicts)], words) for words, verdicts in WORDS.items()]
    groups += [(rows[rows["reason"] == reason], words) for reason, words in REASON_WORDS.items()]
    yield from ((mine, words) for mine, words in groups if len(mine))


def _named(rows: pd.DataFrame) -> str:
    return _first(
        [f"{row.method} ({signed(row.difference)} points, {span(row.low, row.high)})" for row in rows.itertuples()]
    )


def _first(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return join_words([*names[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])])


def _pooled_rows(table: pd.DataFrame, task: str, rows: float, matching: Matching) -> pd.DataFrame:
    is_rows = table["rows"].isna() if math.isnan(rows) else table["rows"] == rows
    return table[(table["task"] == task) & is_rows & (table["matching"] == matching) & (table["testset"] == POOLED)]


def _on_doses(found: Findings) -> Iterator[str]:
    """The primary measure in full; the others of a series in one sentence."""
    pooled = [each for each in found.trends if each.measured.is_pooled]
    for series in dict.fromkeys(each.series for each in pooled):
        mine = [each for each in pooled if each.series == series]
        primary = [each for each in mine if _is_primary(each)]
        others = [each for each in mine if not _is_primary(each)]
        yield from map(say_trend, primary)
        if others and primary:
            yield f"Beside it: {'; '.join(map(_what, others))}."


def _is_primary(trend: DoseTrend) -> bool:
    return trend.measured.measure is Measure.ROBUST


def say_trend(trend: DoseTrend) -> str:
    """Returns the sentence on a trend."""
    return f"On {_where(trend)}: {_what(trend)}, in {_size(trend)}."


def _what(trend: DoseTrend) -> str:
    measure, dose = trend.measured.measure.words, name_dose(trend)
    slope = trend.slope.estimate
    if trend.verdict in (Trend.RISES, Trend.FALLS):
        interval = slope.interval()
        return (
            f"{measure} {trend.verdict} with {dose}, by {_amount(trend, abs(slope.difference))} per doubling of "
            f"{_doubled(trend)} ({_ends(trend, interval)})"
        )
    if trend.verdict is Trend.LEVEL:
        return f"{measure} stays level over {dose}: over the whole range it changes by at most 2 points"
    if trend.verdict is Trend.NO_TREND:
        known = f"{_amount(trend, trend.detectable)} per doubling of {_doubled(trend)}"
        found = (
            "no trend could have been found"
            if math.isnan(trend.detectable)
            else f"a trend of {known} would have been"
        )
        return f"no trend of {measure} over {dose}; {found}" + ("" if math.isnan(trend.detectable) else " found")
    if _is_enough(trend) and trend.edge is None:
        return f"{measure} does not change over {dose}"
    return f"not enough data on {measure} over {dose} ({_lack(trend)})"


def _is_enough(trend: DoseTrend) -> bool:
    return len(np.unique(trend.doses)) >= MIN_DOSES and len(set(trend.measured.seeds)) >= MIN_SEEDS


def _lack(trend: DoseTrend) -> str:
    if _is_enough(trend) and trend.edge is not None:
        return f"it is at the {trend.edge} everywhere"
    return f"a trend needs {MIN_DOSES} doses and {MIN_SEEDS} training seeds"


def _amount(trend: DoseTrend, value: float) -> str:
    if not trend.measured.measure.is_ratio:
        return points(value)
    return f"{100 * (2**value - 1):.0f} %"


def _ends(trend: DoseTrend, interval: Interval) -> str:
    if not trend.measured.measure.is_ratio:
        return f"95 % interval {span(interval.low, interval.high)}"
    low, high = (100 * (2**end - 1) for end in (interval.low, interval.high))
    return f"95 % interval {low:+.0f} to {high:+.0f} %".replace("-", "\u2212")


def name_dose(trend: DoseTrend) -> str:
    """Returns what varies: the one parameter that the study varied, else the number of parameters or rows."""
    if trend.series.dose is Dose.ROWS:
        return "training rows"
    keys = {tuple(json.loads(arm.parameters or "{}")) for arm in trend.measured.arms}
    return str(next(iter(keys))[0]) if len(keys) == 1 and len(next(iter(keys))) == 1 else "trainable parameters"


def _doubled(trend: DoseTrend) -> str:
    return "training rows" if trend.series.dose is Dose.ROWS else "trainable parameters"


def _where(trend: DoseTrend) -> str:
    series = trend.series
    rows = "" if math.isnan(series.rows) else f", {series.rows:,.0f} rows"
    matched = ", matched on clean score" if series.matching is Matching.CLEAN else ""
    return f"{series.task}, {series.name}{rows}{matched}"


def _size(trend: DoseTrend) -> str:
    doses, seeds = len(np.unique(trend.doses)), len(set(trend.measured.seeds))
    return f"{len(trend.measured.arms)} checkpoints of {doses} doses and {seeds} training seeds"


def _on_floor(found: Findings) -> Iterator[str]:
    for block in found.scores.blocks:
        rows = _pooled_rows(found.table, block.task, block.rows, block.matching)
        rows = rows[rows["family"] == FULL]
        if rows.empty or block.matching is Matching.CLEAN:
            continue
        row = rows.iloc[0]
        if pd.isna(row["noise_floor"]):
            yield f"On {block.label}: no noise floor, because full fine-tuning has one training seed."
            continue
        yield (
            f"On {block.label}: two full checkpoints that only the seed distinguishes are "
            f"{points(row['noise_floor'])} apart in robust accuracy (root mean square), "
            f"{points(row['noise_largest'])} at most, over {int(row['n_seeds'])} seeds."
        )


def say_statuses(topics: Sequence[Topic]) -> str:
    """Returns what the study says of all topics, in one sentence."""
    said = []
    for status in type(topics[0].status):
        names = [each.claim.name for each in topics if each.status is status]
        if names:
            said.append(f"{join_words(names)} {'is' if len(names) == 1 else 'are'} {status}")
    return f"Of the topics of arXiv 2505.22355: {'; '.join(said)}."


def say_topic(topic: Topic) -> str:
    """Returns the sentence on a topic, with the narrowest of the intervals that decide it."""
    claim = topic.claim
    if not topic.findings:
        return f"{claim.name}, {topic.status} by this study: it lacks {topic.lacking}."
    deciding = [each for each in topic.findings if each.status is topic.status] or topic.findings
    narrowest = min(deciding, key=lambda each: each.interval.high - each.interval.low)
    n, which = len(topic.findings), "Its one interval"
    tally = ""
    if n > 1:
        counts = {status: sum(each.status is status for each in topic.findings) for status in type(topic.status)}
        tally = f"Of {n} intervals: {join_words([f'{count} {each}' for each, count in counts.items() if count])}. "
        which = f"The narrowest {narrowest.status}"
    return (
        f"{claim.name}, {topic.status} by this study: {claim.statement} {tally}"
        f"{which} is of {say_finding(narrowest, claim)}."
    )


def say_finding(finding: Finding, claim: Claim) -> str:
    """Returns one interval of a topic in words."""
    ends = span(finding.interval.low, finding.interval.high)
    return f"{finding.about}: {signed(finding.value)} {claim.unit}, interval {ends}"


def _on_properties(found: Sequence[PropertyCorrelation]) -> Iterator[str]:
    for block in dict.fromkeys(each.block for each in found):
        mine = [each for each in found if each.block == block and not math.isnan(each.correlation)]
        if not mine:
            continue
        first = mine[0]
        words = join_words([f"{_r(each.correlation)} for {each.name}" for each in mine])
        yield (
            f"Exploratory, on {block.label}, over {first.n} adapter checkpoints of {first.n_methods} methods: the "
            f"rank correlation with robust accuracy is {words}; checkpoints of one method are alike."
        )


def _r(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:+.2f}".replace("-", "\u2212")


def _limits(found: Findings) -> Iterator[str]:
    judged = found.table[(found.table["testset"] == POOLED) & (found.table["n_seeds"] >= MIN_SEEDS)]
    halves = ((judged["high"] - judged["low"]) / 2).dropna()
    if len(halves):
        yield (
            f"Differences of less than about {points(halves.median())} stay undecided at these sizes: "
            "half the width of the median interval."
        )
    n_methods = judged.loc[judged["low"].notna(), "method"].nunique()
    if n_methods > 1:
        yield f"Each method is tested alone at 5 %, without an adjustment over the {n_methods} methods."
    cells = [cell for cell in found.scores.cells if not cell.is_control]
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    attacks = [name for name in dict.fromkeys(cell.attack for cell in cells) if name not in _NO_SEARCH]
    if tasks:
        under = f"under {_first(attacks)}" if attacks else "on fixed test sets"
        yield f"All of this is of one base, on {join_words(tasks)}, {under}; others may differ."


_NO_SEARCH = (NO_ATTACK, WORST_CASE, POOLED)


def _caveats(found: Findings) -> Iterator[str]:
    lost = [each for each in found.study.checkpoints if each.status != "trained"]
    if lost:
        matched = {Matching.BEST: "", Matching.CLEAN: ", matched"}
        names = [f"{each.name} ({each.status}{matched[each.matching]})" for each in lost]
        yield f"Checkpoints without a result: {_first(names)}."
    barren = [job for job in found.study.jobs if job["state"] in ("failed", "refused") and job["kind"] != "train"]
    if barren:
        names = [f"{job['kind']} {job['name']} ({job['state']})" for job in barren]
        yield f"Jobs without a result, for reasons in jobs.csv: {_first(names)}."
    unfinished = [job for job in found.study.jobs if job["state"] == "missing" and job["kind"] != "report"]
    if unfinished:
        yield f"The study is not finished: {len(unfinished)} jobs are missing; the same command continues."
    if found.scores.chosen:
        yield (
            f"Attacks of {join_words(list(found.scores.chosen))} are in no table here: both arms of a pair chose "
            "their examples."
        )
    left = sorted({name for cell in found.scores.cells for name in cell.left_out_arms})
    if left:
        yield f"Left out of cells of which they lack over a fifth of the examples: {_first(left)}."
    if found.study.is_modified:
        yield f"The study has a shipped study's name, {found.study.name}, but another content: it is modified."
