"""The answer about a pair in two facts: whether its arms collapse, and whether one of them is more fragile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.summaries.arms import Arms, worse_arm
from robustness.reports.summaries.kept import COLLAPSED, HARDLY_ANYTHING, HELD, Kept
from robustness.reports.summaries.sentences import count_comparisons, efforts_at_floor, name_share
from robustness.reports.summaries.tallies import of_family
from robustness.reports.summaries.wording import capital, join_words, points
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import PairRecord
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Reason, Verdict

NOT_COMPARED = "Nothing has been compared yet."
ONLY_CONTROLS = "No attack and no adversarial test set has been compared: there is no verdict on fragility."
CANNOT_SAY = "Which of the two is weaker, this run cannot say."


class Collapse(StrEnum):
    """What the strongest attack on a test set leaves of both arms."""

    BOTH = "both collapse"
    REFERENCE = "the reference collapses"
    CANDIDATE = "the candidate collapses"
    ONE = "at least one collapses"
    """One is below the share and the other is not, but no difference between them was found."""
    NEITHER = "neither collapses"
    NOTHING = "both have hardly anything right without an attack"
    HOLD = "both hold up"


COLLAPSES = (Collapse.BOTH, Collapse.ONE, Collapse.REFERENCE, Collapse.CANDIDATE)
NEITHER = "neither collapses on any of {} test sets."


@dataclass(frozen=True, slots=True)
class Headline:
    """Two sentences about a pair or method."""

    collapse: str
    """Empty where nothing was attacked, or the clean accuracy is unknown."""
    difference: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.collapse, self.difference)))


class Answered(Protocol):
    """What is known of one pair or method."""

    @property
    def headline(self) -> Headline:
        """Its two facts."""

    @property
    def verdict(self) -> Verdict | None:
        """None without a comparison."""

    @property
    def kept(self) -> Sequence[Kept]:
        """On each test set, after the strongest attack on it."""

    @property
    def pairs(self) -> Sequence[PairRecord]:
        """The pair, or those of the method."""


def headline(rows: pd.DataFrame, kept: Sequence[Kept], arms: Arms, margin: float) -> Headline:
    """Returns both facts about a pair or method, each by rule from its planned comparisons.

    An arm collapses on a test set if the strongest attack leaves it less than a quarter of its clean accuracy. The
    headline says that one arm alone collapses only where the comparison found a difference.

    Args:
        rows: Its rows of pairs.csv.
        kept: What the strongest attack on each test set leaves.
        arms: What to call its arms.
        margin: The difference of fractions that counts as equal.
    """
    planned = of_family(rows, Family.PLANNED)
    if planned.empty:
        return Headline("", NOT_COMPARED if rows.empty else ONLY_CONTROLS)
    collapse, difference = _describe_collapse(kept, planned, arms), _difference(planned, rows, arms, margin)
    return Headline(capital(collapse), capital(difference))


def judge_collapse(kept: Kept) -> Collapse | None:
    """Returns what the strongest attack on a test set leaves of both arms; None without clean accuracy.

    Arms that have hardly anything right before an attack cannot collapse under it.

    >>> judge_collapse(Kept("dev", "swap", 100, (0.9, 0.9), (0.1, 0.2), Verdict.INCONCLUSIVE)).value
    'both collapse'
    """
    shares = kept.shares
    if shares is None or kept.clean is None:
        return None
    if max(kept.clean) <= HARDLY_ANYTHING:
        return Collapse.NOTHING
    below = tuple(share < COLLAPSED for share in shares)
    if all(below):
        return Collapse.BOTH
    if not any(below):
        return Collapse.HOLD if min(shares) >= HELD else Collapse.NEITHER
    if kept.verdict is Verdict.INCONCLUSIVE:
        return Collapse.ONE
    if kept.verdict is Verdict.EQUIVALENT:
        return Collapse.BOTH if sum(shares) / 2 < COLLAPSED else Collapse.NEITHER
    return Collapse.REFERENCE if below[0] else Collapse.CANDIDATE


def _describe_collapse(kept: Sequence[Kept], planned: pd.DataFrame, arms: Arms) -> str:
    judged = [(each, collapse) for each in kept if (collapse := judge_collapse(each))]
    if not judged:
        return ""
    if {collapse for _, collapse in judged} == {Collapse.NOTHING}:
        where = judged[0][0].testset if len(judged) == 1 else f"{_all(len(judged))} test sets"
        return f"both have hardly anything right on {where} without an attack."
    if len(judged) == 1:
        (only, collapse), *_ = judged
        return f"{_clause(collapse, arms)} {_under(only, planned)}."
    total, found = len(judged), Counter(collapse for _, collapse in judged)
    if not set(found) & set(COLLAPSES):
        every = found[Collapse.HOLD] == total
        return f"both hold up on {_all(total)} test sets." if every else NEITHER.format(total)
    if len(found) == 1:
        return f"{_clause(judged[0][1], arms)} on {_all(total)} test sets."
    first, *others = (each for each in COLLAPSES if found[each])
    clauses = [f"{_clause(first, arms)} on {found[first]} of {total} test sets"]
    return f"{join_words([*clauses, *(f'{_subject(each, arms)} on {found[each]}' for each in others)])}."


def _all(n: int) -> str:
    return "both" if n == 2 else f"all {n}"


def _subject(collapse: Collapse, arms: Arms) -> str:
    """Who collapses."""
    alone = {Collapse.REFERENCE: arms.reference, Collapse.CANDIDATE: arms.candidate}
    return f"{alone[collapse].name} alone" if collapse in alone else collapse.value.partition(" collapse")[0]


def _clause(collapse: Collapse, arms: Arms) -> str:
    """A collapse in words, without its place."""
    alone = {Collapse.REFERENCE: arms.reference, Collapse.CANDIDATE: arms.candidate}
    return f"{alone[collapse].name} alone collapses" if collapse in alone else collapse.value


def _under(kept: Kept, planned: pd.DataFrame) -> str:
    """By what, where there is one test set."""
    if kept.attack == NO_ATTACK:
        return f"on {kept.testset}"
    alone = kept.attack != WORST_CASE and (planned["attack"] == kept.attack).all()
    return f"under {kept.attack}" if alone else "under attack"


def _difference(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms, margin: float) -> str:
    found = set(planned["verdict"])
    if found & (CANDIDATE_FRAGILE | REFERENCE_FRAGILE):
        return _fragile(planned, arms)
    if Verdict.LESS_ACCURATE in found:
        return _less_accurate(planned, arms)
    if found == {Verdict.EQUIVALENT}:
        return f"{arms.both} count as equal, within {points(margin)}."
    if Verdict.EQUIVALENT in found:
        n = int((planned["verdict"] == Verdict.EQUIVALENT).sum())
        return f"they count as equal in {name_share(n, len(planned))}; of the rest, this run cannot say."
    return _undecided(planned, rows, arms)


def _fragile(planned: pd.DataFrame, arms: Arms) -> str:
    candidate, reference = (
        planned[planned["verdict"].isin(words)] for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    )
    places = count_comparisons(len(planned))
    if len(candidate) and len(reference):
        return (
            f"{arms.candidate.name} is more fragile in {len(candidate)} and {arms.reference.name} in "
            f"{len(reference)} of {places}."
        )
    n = len(candidate) + len(reference)
    fragile, other = (arms.candidate, arms.reference) if len(candidate) else (arms.reference, arms.candidate)
    less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]
    same = less[[worse_arm(difference, arms) == fragile for difference in less["difference"]]]
    words = f"{fragile.name} is more fragile than {other.name}{_where(n, len(planned))}"
    return words + (f" and less accurate in {len(same)}." if len(same) else ".")


def _less_accurate(planned: pd.DataFrame, arms: Arms) -> str:
    less = planned[planned["verdict"] == Verdict.LESS_ACCURATE]
    candidate, reference = int((less["difference"] > 0).sum()), int((less["difference"] <= 0).sum())
    if candidate and reference:
        return (
            f"{arms.candidate.name} is less accurate in {candidate} and {arms.reference.name} in {reference} of "
            f"{count_comparisons(len(planned))}; neither is shown to be more fragile."
        )
    worse, other = (arms.candidate, arms.reference) if candidate else (arms.reference, arms.candidate)
    where = _where(len(less), len(planned))
    return f"{worse.name} is less accurate than {other.name}{where}, but not shown to be more fragile."


def _where(n: int, total: int) -> str:
    """In how many comparisons; nothing where in all."""
    return f" in {name_share(n, total)}" if n < total else ""


def _undecided(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> str:
    reasons = set(planned["reason"])
    if reasons == {Reason.FLOOR}:
        return _at_floor(planned, rows, arms)
    return WITHHELD.get(reasons.pop(), CANNOT_SAY) if len(reasons) == 1 else CANNOT_SAY


WITHHELD: dict[object, str] = {
    Reason.CEILING: "These attacks are too weak to tell the two apart.",
    Reason.TWO_SEEDS: "Two training seeds do not tell two methods apart: a third is needed.",
    Reason.SHARED_REFERENCE: "Training seeds share one reference checkpoint: this is no comparison of methods.",
    Reason.SHARED_CANDIDATE: "Training seeds share one candidate checkpoint: this is no comparison of methods.",
    Reason.LEFT_OUT: "Too many examples have no outcome on one arm to tell the arms apart.",
}
"""What is said of the difference where one reason withholds every verdict."""


def _at_floor(planned: pd.DataFrame, rows: pd.DataFrame, arms: Arms) -> str:
    """Accuracy tells nothing where both are nearly always broken; the effort may."""
    efforts = efforts_at_floor(planned, rows)
    if efforts.empty:
        return CANNOT_SAY
    candidate, reference = (
        int(efforts["verdict"].isin(words).sum()) for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    )
    if candidate and reference:
        return (
            f"{arms.candidate.name} breaks with less effort in {candidate} and {arms.reference.name} in "
            f"{reference} of {count_comparisons(len(efforts))}."
        )
    if candidate or reference:
        sooner, other = (arms.candidate, arms.reference) if candidate else (arms.reference, arms.candidate)
        where = _where(candidate or reference, len(efforts))
        return f"{sooner.name} breaks with less effort than {other.name}{where}."
    return CANNOT_SAY


def join_headlines(answers: Sequence[Answered], arms: Arms) -> Headline:
    """Returns both facts about several pairs or methods, counted.

    Args:
        answers: Of each pair or method.
        arms: What to call the arms of all.
    """
    verdicts = Counter(each.verdict for each in answers if each.verdict is not None)
    if not verdicts:
        return answers[0].headline
    return Headline(capital(_count_collapses(answers)), capital(_count_verdicts(verdicts, arms)))


def _count_collapses(answers: Sequence[Answered]) -> str:
    """In how many pairs arms collapse, on at least one test set."""
    untold = {None, Collapse.NOTHING}
    judged = [collapses for each in answers if (collapses := set(map(judge_collapse, each.kept)) - untold)]
    if not judged:
        return ""
    nouns = {"methods" if len(each.pairs) > 1 else "pairs" for each in answers}
    noun = join_words(sorted(nouns))
    where = " on at least one test set" if any(len(each.kept) > 1 for each in answers) else ""
    both = sum(Collapse.BOTH in found for found in judged)
    one = sum(bool(found & _ALONE) and Collapse.BOTH not in found for found in judged)
    total = len(judged)
    if both == total:
        return f"both arms collapse in {_all(total)} {noun}{where}."
    if both + one == 0:
        return f"no arm collapses in any of {total} {noun}."
    if not both:
        share = _all(total) if one == total else f"{one} of {total}"
        return f"one arm collapses in {share} {noun}{where}."
    rest = f" and one arm in {one}" if one else ""
    return f"both arms collapse in {both} of {total} {noun}{rest}{where}."


_ALONE = frozenset({Collapse.ONE, Collapse.REFERENCE, Collapse.CANDIDATE})


def _count_verdicts(verdicts: Counter[Verdict], arms: Arms) -> str:
    total = verdicts.total()
    candidate, reference = (sum(verdicts[each] for each in words) for words in (CANDIDATE_FRAGILE, REFERENCE_FRAGILE))
    less, equal, open_ = (
        verdicts[each] for each in (Verdict.LESS_ACCURATE, Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    )
    if open_ == total:
        return "which arm is weaker, this run cannot say of any."
    clauses = [f"{arms.candidate.name} is more fragile in {candidate}"] if candidate else []
    clauses += [f"{arms.reference.name} is more fragile in {reference}"] if reference else []
    clauses += [f"one arm is only less accurate in {less}"] if less else []
    clauses += [f"both count as equal in {equal}"] if equal else []
    if not open_ and len(clauses) == 1:
        return f"{clauses[0].rpartition(' in ')[0]} in {_all(total)}."
    rest = f"; of {open_} this run cannot say" if open_ else ""
    return f"{join_words(clauses)} of {total}{rest}."
