"""Cells of the page's tables: what is shown, and the CSV's own text of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from robustness.reports.summaries.wording import signed
from robustness.reports.tables.csvfiles import number_text


@dataclass(frozen=True, slots=True)
class PageColumn:
    """One column of a table on the page."""

    name: str
    """In the CSV."""
    title: str
    show: Callable[[Any], str] | None = None
    """How a number is shown; None: text."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PageCell:
    """One cell: `value` is the CSV's text of a number, None of a text."""

    shown: str
    value: str | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table that sorts and filters, of rows of one CSV file."""

    id: str
    source: str
    """File it is from."""
    columns: tuple[PageColumn, ...]
    rows: tuple[tuple[PageCell, ...], ...]
    n_more: int
    """Rows that only the file has."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdicts that occur, for the filter."""
        return tuple(dict.fromkeys(cell.verdict for row in self.rows for cell in row if cell.verdict))


MAX_ROWS = 400
MAX_SPELLED = 1e10
"""More than any seed of 32 bits; bounds may be far larger."""


def page_table(
    name: str, source: str, frame: pd.DataFrame, columns: Sequence[PageColumn], limit: int = MAX_ROWS
) -> PageTable:
    """Returns the first rows of a table for the page."""
    shown = frame.head(limit)
    rows = tuple(
        tuple(_cell(record.get(column.name), column) for column in columns) for record in shown.to_dict("records")
    )
    return PageTable(name, source, tuple(columns), rows, len(frame) - len(shown))


def _cell(value: Any, column: PageColumn) -> PageCell:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return PageCell("", "" if column.show else None)
    if column.show is None:
        return PageCell(str(value), verdict=str(value) if column.name == "verdict" else None)
    return PageCell(column.show(value), number_text(value))


def as_percent(value: float) -> str:
    """A fraction in percent, without the sign.

    >>> as_percent(0.0625)
    '6.2'
    """
    return f"{100 * value:.1f}"


def as_points(value: float) -> str:
    """A difference of fractions in percentage points."""
    return signed(value)


def as_count(value: float) -> str:
    """A whole number."""
    return f"{int(value):,}".replace(",", "\u202f")


def as_number(value: float) -> str:
    """Three significant digits, and all that a number below ten billion has before the point.

    >>> as_number(2024), as_number(999.6), as_number(0.01234), as_number(1.5e30)
    ('2024', '1000', '0.0123', '1.5e+30')
    """
    digits = ".0f" if 100 <= abs(value) < MAX_SPELLED else ".3g"
    return f"{value:{digits}}".replace("-", "\u2212")


def as_p(value: float) -> str:
    """A p-value.

    >>> as_p(0.0004), as_p(0.034)
    ('< 0.001', '0.034')
    """
    return "< 0.001" if value < 0.001 else f"{value:.2g}"
