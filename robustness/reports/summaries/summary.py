"""The answer of a run: a headline for each pair and method, and the sentences it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.methods import group_seeds, pairs_in_methods, pairs_of_methods
from robustness.reports.summaries.arms import Arms, arms_of_pair, arms_of_run
from robustness.reports.summaries.circumstances import describe_circumstances
from robustness.reports.summaries.headline import Headline, headline
from robustness.reports.summaries.kept import Both, Kept, find_kept
from robustness.reports.summaries.sentences import (
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
)
from robustness.reports.summaries.tallies import controls, of_family
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Reason, Verdict

ONE_SEED = "One training seed: this compares two checkpoints, not two methods."
SEEDS_MISSING = "Other training seeds lack some of these outcomes: this compares two checkpoints, not two methods."


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reader should take away about one pair or method."""

    name: str
    arms: Arms
    verdict: Verdict | None
    """The one word of the answer; None without a comparison. Mixed findings are inconclusive."""
    headline: Headline
    kept: tuple[Kept, ...] = ()
    """On each test set, after the strongest attack on it."""
    pairs: tuple[PairRecord, ...] = ()
    """The pair, or those of the method."""
    details: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summaries:
    """The answers of a run."""

    shown: tuple[Summary, ...]
    folded: tuple[Summary, ...]
    """Of the pairs whose methods have an answer."""


def summarise_run(pairs: pd.DataFrame, record: RunRecord) -> Summaries:
    """Returns the answers about methods, then about pairs without one; the other pairs' are folded away.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.
    """
    methods, single = summarise_methods(pairs, record), summarise_pairs(pairs, record)
    folded = pairs_in_methods(pairs, record)
    alone = (each for each in single if each.name not in folded)
    return Summaries((*methods, *alone), tuple(each for each in single if each.name in folded))


def summarise_methods(pairs: pd.DataFrame, record: RunRecord) -> tuple[Summary, ...]:
    """Returns an answer for each method with several training seeds."""
    over_seeds = pairs[pairs["n_seeds"].astype(float) > 1]
    behind = pairs_of_methods(over_seeds["pair"].unique(), record)
    found = []
    for name, rows in over_seeds.groupby("pair", sort=False):
        mine = behind.get(str(name), ())
        caveats = tuple(describe_circumstances(mine, record))
        found.append(answer_rows(str(name), rows, arms_of_run(mine, record), record, caveats, mine))
    return tuple(found)


def summarise_pairs(
    pairs: pd.DataFrame, record: RunRecord, wanted: Sequence[PairRecord] | None = None
) -> tuple[Summary, ...]:
    """Returns an answer for each pair, or for each of the wanted ones."""
    single = pairs[pairs["n_seeds"].astype(float) == 1]
    known, pooled = frozenset(pairs["pair"]), pairs_in_methods(pairs, record)
    siblings = {pair.name: mine for mine in group_seeds(record) for pair in mine}
    found = []
    for pair in record.pairs if wanted is None else wanted:
        about_seeds = () if pair.name in pooled else _about_seeds(siblings[pair.name], known)
        caveats = (*about_seeds, *describe_circumstances([pair], record))
        arms = arms_of_pair(pair, record)
        rows = single[single["pair"] == pair.name]
        found.append(answer_rows(pair.name, rows, arms, record, caveats, (pair,)))
    return tuple(found)


def _about_seeds(siblings: Sequence[PairRecord], known: Set[str]) -> tuple[str, ...]:
    """What a pair without pooled rows cannot say of its method; seeds with outcomes count, not planned seeds."""
    if len({pair.seed for pair in siblings}) < 2:
        return (ONE_SEED,)
    return (SEEDS_MISSING,) if known & {pair.name for pair in siblings} else ()


def answer_rows(
    name: str,
    rows: pd.DataFrame,
    arms: Arms,
    record: RunRecord,
    caveats: tuple[str, ...] = (),
    pairs: tuple[PairRecord, ...] = (),
) -> Summary:
    """Returns the answer that the rows of one pair or method give; only planned comparisons are counted.

    Args:
        name: The pair's or method's.
        rows: Its rows of pairs.csv.
        arms: What to call its arms.
        record: The run's.
        caveats: What to bear in mind beside what the rows say.
        pairs: The pair, or those of the method.
    """
    planned = of_family(rows, Family.PLANNED)
    beside = tuple(describe_control(row, arms) for row in controls(rows).itertuples())
    known, chosen = _clean_before(pairs, record), record.attacked is not None
    kept = () if planned.empty else tuple(find_kept(rows, known, chosen=chosen))
    answer = headline(rows, kept, arms, record.statistics.margin)
    if planned.empty:
        return Summary(name, arms, None, answer, pairs=pairs, caveats=caveats, controls=beside)
    verdict, details = _decide(planned, rows, arms, record.statistics.margin)
    effort = describe_effort(planned, rows, arms), describe_quality(planned, rows, arms)
    further = (describe_opposite_drops(planned), *describe_reasons(planned), describe_left_out(planned))
    return Summary(
        name=name,
        arms=arms,
        verdict=verdict,
        headline=answer,
        kept=kept,
        pairs=pairs,
        details=tuple(filter(None, (*details, *effort))),
        caveats=(*caveats, *filter(None, further)),
        controls=beside,
    )


def _clean_before(pairs: Sequence[PairRecord], record: RunRecord) -> Both | None:
    """Both arms' accuracy on clean texts before the run, the mean of several pairs."""
    if not pairs:
        return None
    arms = [(record.find_checkpoint(each.reference), record.find_checkpoint(each.candidate)) for each in pairs]
    reference, candidate = (fmean(each.clean_accuracy for each in side) for side in zip(*arms, strict=True))
    return reference, candidate


Decision = tuple[Verdict, Iterator[str]]


def _decide(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms, margin: float) -> Decision:
    """The verdict of the whole, and the sentences below its headline."""
    found = set(planned["verdict"])
    if found & CANDIDATE_FRAGILE and found & REFERENCE_FRAGILE:
        return Verdict.INCONCLUSIVE, describe_fragile(_fragile(planned), rows, arms)
    if found & (CANDIDATE_FRAGILE | REFERENCE_FRAGILE):
        fragile = _fragile(planned)
        return Verdict(fragile["verdict"].iloc[0]), describe_fragile(fragile, rows, arms)
    if Verdict.LESS_ACCURATE in found:
        less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]
        return Verdict.LESS_ACCURATE, describe_less_accurate(less, rows, arms, margin)
    if found == {Verdict.EQUIVALENT}:
        return Verdict.EQUIVALENT, iter((describe_equivalent(planned),))
    undecided = planned[planned["verdict"] == Verdict.INCONCLUSIVE]
    return Verdict.INCONCLUSIVE, _describe_undecided(undecided, rows, arms)


def _fragile(planned: pd.DataFrame) -> pd.DataFrame:
    """Comparisons with a fragile verdict, the candidate's first."""
    return pd.concat([planned[planned["verdict"].isin(words)] for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)])


def _describe_undecided(undecided: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> Iterator[str]:
    """The largest difference that could have been found; where all is broken, nothing if the effort was measured."""
    elsewhere = undecided[undecided["reason"] != Reason.FLOOR]
    if len(elsewhere):
        yield from describe_inconclusive(elsewhere, arms)
    elif efforts_at_floor(undecided, rows).empty:
        yield from describe_inconclusive(undecided, arms)
