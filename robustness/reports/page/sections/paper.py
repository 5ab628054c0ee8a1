"""The table for a paper on the page, with its text in every form for the clipboard."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from robustness.reports.page.cells import PageCell, PageColumn, as_count
from robustness.reports.summaries.wording import short_p, signed, span
from robustness.reports.tables.csvfiles import number_text
from robustness.reports.tables.paper import TEXTS, PaperForm, caption, paper_table, write_paper
from robustness.runs.storage.record import RunRecord

MAX_ROWS = 60
FORMS = {PaperForm.MARKDOWN: "Markdown", PaperForm.LATEX: "LaTeX", PaperForm.CSV: "CSV"}


@dataclass(frozen=True, slots=True)
class PaperSource:
    """The table as text."""

    form: PaperForm
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class PaperSection:
    """The table as it is shown and as it is copied."""

    columns: tuple[PageColumn, ...]
    rows: tuple[tuple[PageCell, ...], ...]
    caption: str
    sources: tuple[PaperSource, ...]
    n_more: int


def describe_paper(pairs: pd.DataFrame, record: RunRecord) -> PaperSection:
    """Returns the section; without a comparison it has no rows."""
    table, note = paper_table(pairs, record), caption(pairs, record)
    arms = [name for name in table if name not in (*TEXTS, "n", "difference", "low", "high", "p")]
    columns = (
        *(PageColumn(name, name) for name in table if name in TEXTS and name != "verdict"),
        PageColumn("n", "n", as_count, "examples both arms share"),
        *(PageColumn(name, f"{name}, %", "{:.1f}".format) for name in arms),
        PageColumn("difference", "difference", _points, "percentage points; above 0 the candidate is worse off"),
        PageColumn("interval", "95 % interval", str),
        PageColumn("p", "p adj.", short_p, "adjusted within the planned comparisons; a control has none"),
        PageColumn("verdict", "verdict"),
    )
    return PaperSection(
        columns=columns,
        rows=tuple(_cells(row, columns) for row in table.head(MAX_ROWS).to_dict("records")),
        caption=note,
        sources=tuple(PaperSource(form, FORMS[form], write_paper(table, note, form)) for form in PaperForm),
        n_more=max(0, len(table) - MAX_ROWS),
    )


def _points(value: float) -> str:
    return signed(value / 100)


def _cells(row: dict[str, object], columns: tuple[PageColumn, ...]) -> tuple[PageCell, ...]:
    return tuple(_cell(row, column) for column in columns)


def _cell(row: dict[str, object], column: PageColumn) -> PageCell:
    if column.name == "interval":
        return PageCell(span(float(row["low"]) / 100, float(row["high"]) / 100), "")  # type: ignore[arg-type]
    value = row[column.name]
    if column.show is None:
        return PageCell(str(value))
    return PageCell("", "") if pd.isna(value) else PageCell(column.show(value), number_text(float(value)))  # type: ignore[arg-type]
