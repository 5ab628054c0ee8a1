"""Cells of the terminal's tables of comparisons: what was compared, between whom, with which verdict."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from robustness.reports.comparisons.qa_tables import METRICS
from robustness.reports.summaries.arms import Arms, spell_verdict
from robustness.reports.summaries.fitting import Column, fold_words
from robustness.reports.summaries.reasons import name_shortly, read_reason
from robustness.reports.summaries.sentences import EFFORT
from robustness.runs.cells import NO_ATTACK
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict

VERDICT_STYLES = {
    **dict.fromkeys(CANDIDATE_FRAGILE, "red"),
    **dict.fromkeys(REFERENCE_FRAGILE, "blue"),
    Verdict.LESS_ACCURATE: "yellow",
    Verdict.EQUIVALENT: "green",
}
HEADING_WIDTH = 8
"""Characters of an arm's name above its numbers; longer ones fold between words."""
VERDICT = Column("verdict", is_number=False, min_width=len(Verdict.INCONCLUSIVE))


def name_compared(row: Any) -> str:
    """The attack of a row of pairs.csv; of answers as they stand, what is compared."""
    attack = "no attack" if row.attack == NO_ATTACK else str(row.attack)
    if row.metric == EFFORT:
        return f"{attack}, effort"
    if row.metric not in METRICS:
        return attack
    words = [str(row.metric).replace("_", " "), *(["altered rows"] if row.population == "altered" else [])]
    return ", ".join([*words, *([str(row.aggregation).replace("-", " ")] if row.aggregation != "mean" else [])])


def arm_column(name: str) -> Column:
    """The column of an arm's numbers."""
    return Column("\n".join(fold_words(name, HEADING_WIDTH)))


def verdict_cell(row: Any, arms: Arms) -> str:
    """The verdict of a row of pairs.csv in words and in colour, as markup; empty where there is none."""
    if not isinstance(row.verdict, str) or not row.verdict:
        return ""
    verdict, reason = Verdict(row.verdict), read_reason(row.reason)
    why = f" ({name_shortly(reason)})" if reason else ""
    style = VERDICT_STYLES.get(verdict, "default")
    return f"[{style}]{escape(spell_verdict(verdict, arms, row.difference) + why)}[/]"
