"""Sentences about rows of pairs.csv, each from the numbers of rows on the same examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.summaries.arms import Arms, spell_verdict, worse_arm
from robustness.reports.summaries.reasons import explain, read_reason
from robustness.reports.summaries.tallies import of_family
from robustness.reports.summaries.wording import join_words, p_text, percent, points, signed, signed_points, span
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Reason, Verdict
from robustness.tasks.text.metrics import TextMetric

EFFORT = "effort"
SUCCESS_RATE = "attack_success_rate"
PLACES_NAMED = 3
"""Of those with examples left out; pairs.csv has all."""
QUALITIES = frozenset(metric.value.replace("-", "_") for metric in TextMetric)
"""Metrics by which free text can be half right, as tables call them."""
_EXACT = 1e-6
"""Clean accuracies of a test set are those of the compared examples if their gap agrees this far with the drop's."""

_TENTH = 0.001
"""Of a point, the last digit that sentences show."""


def place(row: Any) -> str:
    """Where a comparison was made, in words."""
    testset = f"the altered rows of {row.testset}" if row.population == "altered" else str(row.testset)
    if row.attack == NO_ATTACK:
        return testset if row.population == "altered" else f"{testset} as it stands"
    if row.attack == WORST_CASE:
        return f"the worst case over all attacks on {testset}"
    return f"{row.attack} on {testset}"


def find_clearest(rows: pd.DataFrame) -> Any:
    """Returns the surest of comparisons with one verdict: the smallest p, then the largest difference."""
    order = rows.assign(size=-rows["difference"].abs(), pooled=rows["attack"] == WORST_CASE)
    return next(order.sort_values(["p_adjusted", "size", "pooled"], kind="stable").itertuples())


def describe_fragile(rows: pd.DataFrame, everything: pd.DataFrame, arms: Arms) -> Iterator[str]:
    """Yields the clearest of the comparisons, and what it rests on: the success rate and the clean accuracies.

    Args:
        rows: Comparisons with one fragile verdict.
        everything: All rows of the pair.
        arms: What to call its arms.
    """
    clearest = find_clearest(rows)
    yield f"Clearest: {compare(clearest, arms)}."
    rate = _same_place(everything, clearest, SUCCESS_RATE)
    if rate is not None:
        yield f"{_broken(rate, arms, 'Of')}."
    clean = _clean_accuracy(clearest, everything, arms)
    if clean:
        yield f"Clean accuracy on the same {_count(clearest.n)} examples: {clean}."


def describe_less_accurate(rows: pd.DataFrame, everything: pd.DataFrame, arms: Arms, margin: float) -> Iterator[str]:
    """Yields the clearest of comparisons that the clean gap explains, with its success rates and clean accuracies."""
    clearest = find_clearest(rows)
    yield f"Clearest: {compare(clearest, arms)}."
    rate = _same_place(everything, clearest, SUCCESS_RATE)
    clean = _clean_accuracy(clearest, everything, arms)
    if rate is None or not clean:
        return
    same = -margin <= rate.low and rate.high <= margin
    lower = f"lower clean accuracy of {worse_arm(clearest.difference, arms).name}"
    opposes = (rate.high < 0) if clearest.difference > 0 else (rate.low > 0)
    begin = "Same success rate, " if same else "No difference in success rate found, "
    begin = f"Lower success rate on {worse_arm(clearest.difference, arms).name}, " if opposes else begin
    yield f"{begin}{lower}: {_broken(rate, arms, 'of')}."
    yield f"Clean accuracy on the same {_count(clearest.n)} examples: {clean}."


def describe_equivalent(rows: pd.DataFrame) -> str:
    """The interval of equivalent comparisons that reaches farthest from 0."""
    reach = rows[["low", "high"]].abs().max(axis=1)
    widest = next(rows.loc[[reach.idxmax()]].itertuples())
    return (
        f"The 95 % interval that reaches farthest is that of {place(widest)}: {span(widest.low, widest.high)} points "
        f"(difference {signed(widest.difference)}, {_sample(widest)})."
    )


def describe_inconclusive(rows: pd.DataFrame, arms: Arms) -> Iterator[str]:
    """Yields the largest difference without a verdict, and what its sample could have shown."""
    order = rows.assign(size=-rows["difference"].abs(), pooled=rows["attack"] == WORST_CASE)
    largest = next(order.sort_values(["size", "pooled"], kind="stable").itertuples())
    yield f"Largest difference: {compare(largest, arms)}."
    if pd.notna(largest.detectable):
        seen = "discordance" if str(largest.test).startswith("mcnemar") else "spread"
        size = points(largest.detectable)
        yield f"At the {seen} seen here, a true difference of {size} would be found with power .80."


def describe_effort(planned: pd.DataFrame, everything: pd.DataFrame, arms: Arms) -> str:
    """The surest difference in effort where both arms are nearly always broken; empty where none was measured."""
    efforts = efforts_at_floor(planned, everything)
    if efforts.empty:
        return ""
    row = find_clearest(efforts)
    return (
        f"Effort, {place(row)}: {arms.candidate.name} breaks with less in {percent(row.candidate_value)} and "
        f"{arms.reference.name} in {percent(row.reference_value)} of {_count(row.n)} examples both have right "
        f"(ties half): {signed_points(row.difference)} ({_uncertainty(row)})."
    )


def efforts_at_floor(planned: pd.DataFrame, everything: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of effort at the places where both arms are nearly always broken."""
    floor = planned[planned["reason"] == Reason.FLOOR]
    keys = set(zip(floor["testset"], floor["attack"], strict=True))
    efforts = of_family(everything, Family.EFFORT)
    return efforts[[key in keys for key in zip(efforts["testset"], efforts["attack"], strict=True)]]


def describe_quality(planned: pd.DataFrame, everything: pd.DataFrame, arms: Arms) -> str:
    """How good answers still are where both arms are nearly always broken; empty where they are right or wrong."""
    floor = planned[planned["reason"] == Reason.FLOOR]
    keys = set(zip(floor["testset"], floor["attack"], strict=True))
    qualities = everything[everything["metric"].isin(QUALITIES) & (everything["population"] == "both_correct")]
    at_floor = qualities[[key in keys for key in zip(qualities["testset"], qualities["attack"], strict=True)]]
    if at_floor.empty:
        return ""
    row = find_clearest(at_floor)
    return (
        f"Quality of the answers, {place(row)}: of {_count(row.n)} examples both had right {_scores(row, arms)}: "
        f"{signed_points(row.difference)} ({_uncertainty(row)})."
    )


def describe_reasons(planned: pd.DataFrame) -> Iterator[str]:
    """Yields for each reason how many planned comparisons it is of."""
    reasons = [read_reason(value) for value in planned["reason"]]
    for reason in Reason:
        if n := reasons.count(reason):
            yield f"In {name_share(n, len(planned))}: {_lower(explain(reason))}"


def describe_left_out(planned: pd.DataFrame) -> str:
    """How many examples have no judged outcome on one arm, and where; empty where all have."""
    left_out = planned[planned["n_left_out"].astype(float) > 0]
    if left_out.empty:
        return ""
    places = [f"{_count(row.n_left_out)} of {place(row)}" for row in left_out.itertuples()]
    named = places[:PLACES_NAMED]
    if len(places) > len(named):
        named.append(f"more at {len(places) - len(named)} further places (pairs.csv)")
    return f"Examples left out, without an outcome on at least one arm: {join_words(named)}."


def describe_opposite_drops(planned: pd.DataFrame) -> str:
    """In how many fragile verdicts the arm called more fragile lost less from clean to robust; empty for none."""
    candidate, reference = (
        planned[planned["verdict"].isin(words)] for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    )
    lost_less = (candidate["drop_high"].astype(float) < 0).sum() + (reference["drop_low"].astype(float) > 0).sum()
    if not lost_less:
        return ""
    return (
        f"In {lost_less} of {count_comparisons(len(candidate) + len(reference))} called fragile, the other arm lost "
        "more accuracy from clean to robust: it had more to lose."
    )


def describe_control(row: Any, arms: Arms) -> str:
    """One control: a comparison that no verdict on robustness counts."""
    verdict = Verdict(row.verdict) if isinstance(row.verdict, str) and row.verdict else None
    said = f"; {spell_verdict(verdict, arms, row.difference)}" if verdict else ""
    return f"{place(row)}: {_scores(row, arms)}; {_difference(row)}{said}."


def compare(row: Any, arms: Arms) -> str:
    """A comparison with its numbers, without a full stop."""
    return f"{place(row)}, where {_scores(row, arms)}: {_difference(row)}"


def count_comparisons(n: int) -> str:
    """A number of comparisons.

    >>> count_comparisons(1), count_comparisons(4)
    ('1 comparison', '4 comparisons')
    """
    return f"{n} comparison" + ("" if n == 1 else "s")


def name_share(n: int, total: int) -> str:
    """So many of so many comparisons.

    >>> name_share(1, 4), name_share(4, 4), name_share(1, 1)
    ('1 of 4 comparisons', 'all 4 comparisons', 'the only comparison')
    """
    if n < total:
        return f"{n} of {count_comparisons(total)}"
    return "the only comparison" if total == 1 else f"all {count_comparisons(total)}"


def _scores(row: Any, arms: Arms) -> str:
    reference, candidate = percent(row.reference_value), percent(row.candidate_value)
    if row.metric == "robust_accuracy":
        return f"{arms.reference.name} keeps {reference} and {arms.candidate.name} {candidate}"
    if row.metric == "accuracy":
        return f"{arms.reference.name} has {reference} right and {arms.candidate.name} {candidate}"
    metric = str(row.metric).replace("_", " ").replace("f1", "F1").replace("rouge l", "ROUGE-L")
    return f"{arms.reference.name} has {metric} {reference} and {arms.candidate.name} {candidate}"


def _difference(row: Any) -> str:
    return f"{signed_points(row.difference)} ({_uncertainty(row)}, {_sample(row)})"


def _uncertainty(row: Any) -> str:
    p = p_text(row.p_value) if pd.isna(row.p_adjusted) else p_text(row.p_adjusted, "adjusted p")
    noise = f", noise floor {points(row.noise_floor)}" if row.noise_floor > 0 else ""
    return f"95 % interval {span(row.low, row.high)}, {p}{noise}"


def _sample(row: Any) -> str:
    return f"n = {_count(row.n)}" + (f", {int(row.n_seeds)} seeds" if row.n_seeds > 1 else "")


def _broken(rate: Any, arms: Arms, of: str) -> str:
    return (
        f"{of} {_count(rate.n)} examples both have right, {percent(rate.reference_value)} break under "
        f"{arms.reference.name} and {percent(rate.candidate_value)} under {arms.candidate.name}: "
        f"{signed_points(rate.difference)} ({_uncertainty(rate)})"
    )


def _same_place(everything: pd.DataFrame, row: Any, metric: str) -> Any:
    """The row of another metric at the same test set and attack; None where there is none."""
    here = (everything["testset"] == row.testset) & (everything["attack"] == row.attack)
    return next(everything[here & (everything["metric"] == metric)].itertuples(), None)


def _clean_accuracy(row: Any, everything: pd.DataFrame, arms: Arms) -> str:
    """Both arms' clean accuracy on the very examples of a row, or at least its difference; empty where unknown.

    The row's own numbers hold the gap: what robust accuracy differs by, less what the losses differ by. The
    accuracy of the test set is taken where it is of as many examples and agrees.
    """
    if row.attack == NO_ATTACK or pd.isna(row.drop_difference):
        return ""
    gap = row.difference - row.drop_difference
    clean = everything[(everything["testset"] == row.testset) & (everything["attack"] == NO_ATTACK)]
    for known in clean[(clean["metric"] == "accuracy") & (clean["population"] == "all")].itertuples():
        if known.n == row.n and abs(known.difference - gap) < _EXACT:
            reference, candidate = percent(known.reference_value), percent(known.candidate_value)
            return f"{arms.reference.name} {reference}, {arms.candidate.name} {candidate}"
    if abs(gap) < _TENTH / 2:
        return "no difference"
    side = "below" if gap > 0 else "above"
    return f"{arms.candidate.name} is {points(abs(gap))} {side} {arms.reference.name}"


def _count(n: float) -> str:
    return f"{int(n):,}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
