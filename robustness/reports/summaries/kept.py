"""What each arm of a pair still has right after the strongest attack on a test set, from rows of pairs.csv."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.summaries.tallies import of_family
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import Verdict

COLLAPSED = 0.25
"""An arm that keeps less than this share of its clean accuracy has collapsed."""
HELD = 0.75
"""An arm that keeps at least this share of its clean accuracy holds up."""
HARDLY_ANYTHING = 0.05
"""Arms with at most this clean accuracy have nothing to lose."""
Both = tuple[float, float]
"""The reference's number, the candidate's."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What both arms have right on one test set, before and after the strongest attack on it."""

    testset: str
    attack: str
    """`worst-case` over several attacks, the only attack, or `none`: the rows of an adversarial test set itself."""
    n: int
    clean: Both | None
    """Fractions of right answers to the clean texts of these examples; None where they are unknown."""
    robust: Both
    verdict: Verdict
    clean_accuracy: Both | None = None
    """Of the whole test set, where only examples that both arms have right were attacked: then `clean` is 1."""

    @property
    def is_chosen(self) -> bool:
        """Whether only examples that both arms have right were attacked."""
        return self.clean_accuracy is not None and self.clean_accuracy != self.clean

    @property
    def shares(self) -> Both | None:
        """Robust accuracy over clean accuracy of both arms, an arm without clean accuracy at 0."""
        if self.clean is None:
            return None
        reference, candidate = (
            robust / clean if clean > 0 else 0.0 for robust, clean in zip(self.robust, self.clean, strict=True)
        )
        return reference, candidate


def find_kept(rows: pd.DataFrame, known: Both | None = None, *, chosen: bool = False) -> Iterator[Kept]:
    """Yields what is kept on each test set with a planned comparison, in the order of the rows.

    The strongest attack is the worst case over several attacks, else the attack that leaves the least.

    Args:
        rows: Those of one pair or method in pairs.csv.
        known: Both arms' accuracy on clean texts before the run, which stands in for a test set without clean texts.
        chosen: Whether the run attacked only rows that both arms of a pair have right.
    """
    for testset, planned in of_family(rows, Family.PLANNED).groupby("testset", sort=False):
        left = (planned["reference_value"] + planned["candidate_value"]).where(planned["attack"] != WORST_CASE, -1.0)
        row = planned.loc[left.idxmin()]
        here = rows[rows["testset"] == testset]
        is_static = row["attack"] == NO_ATTACK
        yield Kept(
            testset=str(testset),
            attack=str(row["attack"]),
            n=int(row["n"]),
            clean=known if is_static else find_clean(here, known, chosen=chosen),
            robust=(float(row["reference_value"]), float(row["candidate_value"])),
            verdict=Verdict(row["verdict"]),
            clean_accuracy=known if is_static else _whole_accuracy(here, known),
        )


def find_clean(here: pd.DataFrame, known: Both | None = None, *, chosen: bool) -> Both | None:
    """Returns both arms' clean accuracy on the examples that attacks on a test set were asked about.

    Args:
        here: The rows of the test set.
        known: What to return where the rows do not say.
        chosen: Whether the run attacked only rows that both arms of a pair have right.
    """
    return (1.0, 1.0) if chosen else _whole_accuracy(here, known)


def _whole_accuracy(here: pd.DataFrame, known: Both | None) -> Both | None:
    """Of all the clean texts of a test set."""
    clean = here[(here["attack"] == NO_ATTACK) & (here["population"] == "all") & (here["aggregation"] == "mean")]
    clean = clean[clean["metric"].isin(["accuracy", "exact_match"])]
    if clean.empty:
        return known
    return float(clean["reference_value"].iloc[0]), float(clean["candidate_value"].iloc[0])


def mean_kept(kept: Sequence[Kept]) -> tuple[Both | None, Both] | None:
    """Returns both arms' accuracy on whole clean test sets and under attack, the means over test sets."""
    if not kept:
        return None
    known = [each.clean_accuracy for each in kept if each.clean_accuracy is not None]
    robust = _mean([each.robust for each in kept])
    return (_mean(known) if len(known) == len(kept) else None), robust


def _mean(values: Sequence[Both]) -> Both:
    reference, candidate = (fmean(side) for side in zip(*values, strict=True))
    return reference, candidate
