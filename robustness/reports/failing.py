"""Verdicts that a caller does not accept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robustness.definitions.naming import nearest_of
from robustness.errors import UsageError
from robustness.reports.comparisons.comparison import Family
from robustness.reports.report import Report
from robustness.reports.summaries.sentences import place
from robustness.reports.summaries.wording import signed_points
from robustness.reports.tables.columns import Table
from robustness.runs.cells import NO_ATTACK
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict


@dataclass(frozen=True, slots=True)
class FailRule:
    """A verdict that is not accepted, from some size of the difference on."""

    verdicts: frozenset[Verdict]
    """Verdicts of the same meaning in other contrasts."""
    points: float = 0.0
    """Percentage points."""


def read_rule(words: str) -> FailRule:
    """Reads VERDICT or VERDICT:POINTS.

    >>> read_rule("less-accurate:2.5").points
    2.5

    Raises:
        UsageError: no such verdict, or points that are not a number of at least 0.
    """
    name, _, points = words.partition(":")
    if name not in list(Verdict):
        raise UsageError(f"--fail-on {words}: unknown verdict {name!r}{nearest_of(name, list(Verdict))}")
    try:
        size = float(points) if ":" in words else 0.0
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise UsageError(f"--fail-on {words}: expected percentage points after the colon, such as {name}:2")
    verdict = Verdict(name)
    groups = (CANDIDATE_FRAGILE, REFERENCE_FRAGILE)
    return FailRule(next((group for group in groups if verdict in group), frozenset({verdict})), size)


def find_failing(report: Report, rules: Iterable[FailRule]) -> Sequence[str]:
    """Returns a line for each planned comparison, or test set as it stands, with a verdict that is not accepted."""
    rows = report.tables[Table.PAIRS]
    rows = rows[(rows["family"] == Family.PLANNED) | (rows["attack"] == NO_ATTACK)]
    return [
        f"--fail-on: {row.pair}, {place(row)}: {row.verdict}, {signed_points(row.difference)}"
        for rule in rules
        for row in rows[rows["verdict"].isin(rule.verdicts)].itertuples()
        if abs(row.difference) >= rule.points / 100
    ]
