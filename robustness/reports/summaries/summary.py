"""The answer of a run: a headline for each pair and method, and the sentences it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.methods import fragile_verdicts
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run, worse_arm
from robustness.reports.summaries.circumstances import describe_circumstances
from robustness.reports.summaries.sentences import (
    count_comparisons,
    describe_control,
    describe_effort,
    describe_equivalent,
    describe_fragile,
    describe_inconclusive,
    describe_left_out,
    describe_less_accurate,
    describe_opposite_drops,
    describe_quality,
    describe_reasons,
    efforts_at_floor,
    name_share,
)
from robustness.reports.summaries.tallies import controls, of_family
from robustness.reports.summaries.wording import capital, points
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Reason, Verdict

ONE_SEED = "One training seed: this compares two checkpoints, not two methods."
SEEDS_MISSING = "Other training seeds have no outcomes in common yet: this compares two checkpoints, not two methods."
NOT_COMPARED = "Nothing has been compared yet."
ONLY_CONTROLS = "No adversarial test set and no attack has been compared: there is no verdict on fragility."


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader should take away about one pair or method."""

    name: str
    arms: Arms
    verdict: Verdict | None
    """The one word of the answer; None without a comparison. Mixed findings are inconclusive."""
    headline: str
    details: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    counts: tuple[tuple[Verdict, str, int], ...] = ()
    """Of the planned comparisons: verdict, in words, how many."""


@dataclass(frozen=True, slots=True)
class Summaries:
    """The answers of a run."""

    shown: tuple[Summary, ...]
    folded: tuple[Summary, ...]
    """Of single pairs, where there are answers about their methods."""


def summarise_run(pairs: pd.DataFrame, record: RunRecord) -> Summaries:
    """Returns the answers about methods, with those about pairs folded away; without methods those about pairs.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.
    """
    methods, single = summarise_methods(pairs, record), summarise_pairs(pairs, record)
    return Summaries(methods, single) if methods else Summaries(single, ())


def summarise_methods(pairs: pd.DataFrame, record: RunRecord) -> tuple[Summary, ...]:
    """Returns an answer for each method with several training seeds."""
    over_seeds = pairs[pairs["n_seeds"].astype(float) > 1]
    found = []
    for name, rows in over_seeds.groupby("pair", sort=False):
        mine = pairs_of(str(rows["method"].iloc[0]), record)
        caveats = tuple(describe_circumstances(mine, record))
        found.append(answer_rows(str(name), rows, arms_of_run(mine, record), record, caveats))
    return tuple(found)


def summarise_pairs(pairs: pd.DataFrame, record: RunRecord) -> tuple[Summary, ...]:
    """Returns an answer for each pair."""
    single = pairs[pairs["n_seeds"].astype(float) == 1]
    found = []
    for pair in record.pairs:
        caveats = (*_about_seeds(pair, pairs, record), *describe_circumstances([pair], record))
        arms = arms_of_pair(pair, record)
        found.append(answer_rows(pair.name, single[single["pair"] == pair.name], arms, record, caveats))
    return tuple(found)


def _about_seeds(pair: PairRecord, pairs: pd.DataFrame, record: RunRecord) -> tuple[str, ...]:
    """What a single pair does not say of its method: seeds count that have outcomes, not those that are planned."""
    siblings = _siblings(pair, record)
    if len({other.seed for other in siblings}) < 2:
        return (ONE_SEED,)
    compared = pairs[pairs["pair"].isin([other.name for other in siblings])]
    candidate = record.find_checkpoint(pair.candidate)
    over_seeds = pairs[(pairs["n_seeds"].astype(float) > 1) & (pairs["method"] == candidate.adaptation)]
    if len(compared) and over_seeds.empty:
        return (SEEDS_MISSING,)
    return ()


def pairs_of(method: str, record: RunRecord) -> tuple[PairRecord, ...]:
    """Returns the pairs whose candidate was adapted in this way."""
    return tuple(pair for pair in record.pairs if record.find_checkpoint(pair.candidate).adaptation == method)


def _siblings(pair: PairRecord, record: RunRecord) -> list[PairRecord]:
    """The pairs of the same method on the same base and task, this one among them."""
    candidate = record.find_checkpoint(pair.candidate)
    return [
        other
        for other in pairs_of(candidate.adaptation, record)
        if (other.task, other.base) == (pair.task, pair.base)
        and record.find_checkpoint(other.candidate).method_digest == candidate.method_digest
    ]


def answer_rows(
    name: str, rows: pd.DataFrame, arms: Arms, record: RunRecord, caveats: tuple[str, ...] = ()
) -> Summary:
    """Returns the answer that the rows of one pair or method give; only planned comparisons are counted.

    Args:
        name: The pair's or method's.
        rows: Its rows of pairs.csv.
        arms: What to call its arms.
        record: The run's.
        caveats: What to bear in mind beside what the rows say.
    """
    planned = of_family(rows, Family.PLANNED)
    beside = tuple(describe_control(row, arms) for row in controls(rows).itertuples())
    if planned.empty:
        headline = NOT_COMPARED if rows.empty else ONLY_CONTROLS
        return Summary(name, arms, None, headline, caveats=caveats, controls=beside)
    verdict, headline, details = _decide(planned, rows, arms, record.statistics.margin)
    effort = describe_effort(planned, rows, arms), describe_quality(planned, rows, arms)
    further = (describe_opposite_drops(planned), *describe_reasons(planned), describe_left_out(planned))
    return Summary(
        name=name,
        arms=arms,
        verdict=verdict,
        headline=headline,
        details=tuple(filter(None, (*details, *effort))),
        caveats=(*caveats, *filter(None, further)),
        controls=beside,
        counts=tuple(_counts(planned, arms)),
    )


Decision = tuple[Verdict, str, Iterator[str]]


def _decide(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms, margin: float) -> Decision:
    """The verdict of the whole, its headline and the sentences below it."""
    found = set(planned["verdict"])
    if found & (CANDIDATE_FRAGILE | REFERENCE_FRAGILE):
        return _decide_fragile(planned, rows, arms)
    if Verdict.LESS_ACCURATE in found:
        return _decide_less_accurate(planned, rows, arms, margin)
    if found == {Verdict.EQUIVALENT}:
        n = len(planned)
        headline = f"{capital(arms.both)} are equivalent within {points(margin)} in {name_share(n, n)}."
        return Verdict.EQUIVALENT, headline, iter((describe_equivalent(planned),))
    undecided = planned[planned["verdict"] == Verdict.INCONCLUSIVE]
    headline = _undecided(planned, rows, arms)
    if Verdict.EQUIVALENT in found:
        n = len(planned) - len(undecided)
        headline = (
            f"{arms.both} are equivalent in {n} of {count_comparisons(len(planned))}; the rest is inconclusive."
        )
    return Verdict.INCONCLUSIVE, capital(headline), _describe_undecided(undecided, rows, arms)


def _describe_undecided(undecided: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> Iterator[str]:
    """The largest difference that could have been found; where all is broken, nothing if the effort was measured."""
    elsewhere = undecided[undecided["reason"] != Reason.FLOOR]
    if len(elsewhere):
        yield from describe_inconclusive(elsewhere, arms)
    elif efforts_at_floor(undecided, rows).empty:
        yield from describe_inconclusive(undecided, arms)


def _decide_fragile(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> Decision:
    candidate, reference = (
        planned[planned["verdict"].isin(words)] for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    )
    both = pd.concat([candidate, reference])
    places = count_comparisons(len(planned))
    if len(candidate) and len(reference):
        headline = (
            f"{arms.candidate.name} is more fragile in {len(candidate)} and {arms.reference.name} in "
            f"{len(reference)} of {places}."
        )
        return Verdict.INCONCLUSIVE, capital(headline), describe_fragile(both, rows, arms)
    fragile, other = (arms.candidate, arms.reference) if len(candidate) else (arms.reference, arms.candidate)
    less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]
    same = less[[worse_arm(difference, arms) == fragile for difference in less["difference"]]]
    headline = f"{fragile.name} is more fragile than {other.name} in {name_share(len(both), len(planned))}"
    headline += f" and less accurate in {len(same)}." if len(same) else "."
    return Verdict(both["verdict"].iloc[0]), capital(headline), describe_fragile(both, rows, arms)


def _decide_less_accurate(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms, margin: float) -> Decision:
    less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]
    places = count_comparisons(len(planned))
    candidate, reference = int((less["difference"] > 0).sum()), int((less["difference"] <= 0).sum())
    if candidate and reference:
        headline = (
            f"{arms.candidate.name} is less accurate in {candidate} and {arms.reference.name} in {reference} of "
            f"{places}; neither is shown to be more fragile."
        )
    else:
        worse, other = (arms.candidate, arms.reference) if candidate else (arms.reference, arms.candidate)
        headline = f"{worse.name} is less accurate than {other.name} in {name_share(len(less), len(planned))}"
        headline += ", but not shown to be more fragile."
    return Verdict.LESS_ACCURATE, capital(headline), describe_less_accurate(less, rows, arms, margin)


def _undecided(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> str:
    reasons = set(planned["reason"])
    if reasons == {Reason.FLOOR}:
        return _floor_headline(planned, rows, arms)
    if len(reasons) == 1 and (headline := WITHHELD.get(reasons.pop())):
        return headline
    return f"This run does not tell {arms.both} apart."


WITHHELD: dict[object, str] = {
    Reason.CEILING: "Both are nearly always right: these attacks are too weak to tell them apart.",
    Reason.TWO_SEEDS: "Two training seeds do not tell two methods apart: a third is needed.",
    Reason.SHARED_REFERENCE: "Training seeds share one reference checkpoint: this is no comparison of methods.",
    Reason.LEFT_OUT: "Too many examples have no outcome on one arm to tell the arms apart.",
}
"""The headline where one reason withholds every verdict."""


def _floor_headline(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> str:
    efforts = efforts_at_floor(planned, rows)
    if efforts.empty:
        return "Both are nearly always broken: accuracy does not tell them apart."
    candidate, reference = (
        int(efforts["verdict"].isin(words).sum()) for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    )
    places = count_comparisons(len(efforts))
    if candidate and reference:
        return (
            f"Both are nearly always broken; {arms.candidate.name} with less effort in {candidate} and "
            f"{arms.reference.name} in {reference} of {places}."
        )
    if candidate or reference:
        share = name_share(candidate or reference, len(efforts))
        sooner = arms.candidate if candidate else arms.reference
        return f"Both are nearly always broken; {sooner.name} with less effort in {share}."
    return "Both are nearly always broken, and their effort does not tell them apart."


def _counts(planned: pd.DataFrame, arms: Arms) -> Iterator[tuple[Verdict, str, int]]:
    """Each verdict in words and its number; who is less accurate only where someone is."""
    tally = planned["verdict"].value_counts()
    less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]["difference"]
    for verdict, arm in zip(
        fragile_verdicts(planned["contrast"].iloc[0]), (arms.candidate, arms.reference), strict=True
    ):
        yield verdict, f"{arm.short} more fragile", int(tally.get(verdict, 0))
    yield Verdict.LESS_ACCURATE, f"{arms.candidate.short} less accurate", int((less > 0).sum())
    if (less <= 0).any():
        yield Verdict.LESS_ACCURATE, f"{arms.reference.short} less accurate", int((less <= 0).sum())
    for verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE):
        yield verdict, verdict.value, int(tally.get(verdict, 0))
