"""How a run ends on the terminal: the headline, at most twelve comparisons, the page's path."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from rich.markup import escape

from robustness.reports.comparisons.claims import Direction
from robustness.reports.comparisons.methods import shown_rows
from robustness.reports.page.writing import FILE_NAME as PAGE
from robustness.reports.report import Report
from robustness.reports.summaries.arms import arms_of_run
from robustness.reports.summaries.fitting import Part, Sentence
from robustness.reports.summaries.shown_comparisons import render_comparisons
from robustness.reports.summaries.summary import summarise_run
from robustness.reports.tables.columns import Table
from robustness.runs.storage.lock import describe_progress
from robustness.runs.storage.record import RunRecord

MOST_HEADLINES = 6
"""Of pairs or methods."""
MOST_WARNINGS = 2
"""Shown in full."""


def render_ending(report: Report) -> Iterator[Part]:
    """Yields what is missing or doubtful, the answer, its comparisons, and where the rest is."""
    record, pairs = report.record, report.tables[Table.PAIRS]
    yield from describe_gaps(report)
    yield from _warnings(record)
    answers = summarise_run(pairs, record).shown
    for answer in answers[:MOST_HEADLINES]:
        name = f"{answer.name}: " if len(answers) > 1 else ""
        yield Sentence(f"{name}{answer.headline}", style="bold")
    if len(answers) > MOST_HEADLINES:
        yield Sentence(f"and {len(answers) - MOST_HEADLINES} more: see the page")
    yield from render_comparisons(answers, shown_rows(pairs, record), record)
    yield from _probes(report)
    yield escape(f"more: robustness report {shlex.quote(str(report.folder))} --verbose")
    yield escape(f"page: {report.folder / PAGE}")


def describe_gaps(report: Report) -> Iterator[Sentence]:
    """Yields what a run has not done yet, and what is at fault."""
    for what, n in {"outcomes": report.missing, "probe cells": report.missing_measurements}.items():
        if n:
            yield Sentence(f"{n} {what} are missing: {describe_progress(report.folder)}")
    if report.missing_replays:
        yield Sentence(
            f"{report.missing_replays} texts that broke one arm have no answer of the other: they are not asked yet, "
            "or the model fails on them; the same command tries again"
        )
    for violation in report.record.violations:
        yield Sentence(f"fault: {violation}")


def _warnings(record: RunRecord) -> Iterator[Sentence]:
    for warning in record.warnings[:MOST_WARNINGS]:
        yield Sentence(f"warning: {warning}")
    if len(record.warnings) > MOST_WARNINGS:
        yield Sentence(f"warnings: {len(record.warnings) - MOST_WARNINGS} more on the page")


def _probes(report: Report) -> Iterator[Sentence]:
    """How many numbers call which arm more sensitive; which ones they are fills pages."""
    numbers = report.tables[Table.SENSITIVITY_PAIRS]
    claims = numbers[numbers["layer"].isna() & numbers["module"].isna() & (numbers["direction"] != Direction.NEUTRAL)]
    if claims.empty:
        return
    arms = arms_of_run(report.record.pairs, report.record)
    both = Direction.CANDIDATE, Direction.REFERENCE
    candidate, reference = ((claims["direction"] == each).sum() for each in both)
    yield Sentence(
        f"probes: of {len(claims)} numbers that support a claim, {arms.candidate.name} is more sensitive in "
        f"{candidate}, {arms.reference.name} in {reference}"
    )
