"""What errored in a run, counted by the attack or probe and the error."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from robustness.engine.outcome import Status
from robustness.errors import shorten
from robustness.reports.report import Report
from robustness.reports.tables.columns import Table
from robustness.reports.tables.probes.sensitivity import find_errored
from robustness.runs.cells import NO_ATTACK

MOST_ERRORS = 5
"""That are named, the most frequent first; the rest is in the files."""


def describe_errors(report: Report) -> Iterator[str]:
    """Yields a line that counts the examples that errored and one for each error; the same of measurements."""
    if report.n_errored:
        examples = report.tables[Table.EXAMPLES]
        errored = examples[examples["status"] == Status.ERRORED]
        yield f"{len(errored)} examples errored; see the column error of examples.csv"
        yield from _count(errored["attack"].replace(NO_ATTACK, "no attack"), errored["error"])
    if report.n_errored_measurements:
        errored = find_errored(report.tables[Table.SENSITIVITY], report.tables[Table.SENSITIVITY_EXAMPLES])
        yield f"{len(errored)} measurements errored; see the column reason of sensitivity*.csv"
        yield from _count(errored["probe"], errored["reason"])


def _count(names: pd.Series[str], errors: pd.Series[str]) -> Iterator[str]:
    said = errors.fillna("").map(lambda error: shorten(" ".join(error.split())))
    ordered = said.groupby([names, said]).size().sort_values(ascending=False, kind="stable")
    for (name, error), n in ordered.head(MOST_ERRORS).items():
        yield f"  {n} under {name}: {error}"
    if len(ordered) > MOST_ERRORS:
        yield f"  and {len(ordered) - MOST_ERRORS} other errors"
