"""Texts of CSV cells that no spreadsheet runs as a formula."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets read as the start of a formula, full-width forms included."""
GUARD = "'"


def neutralise(text: str) -> str:
    """Puts an apostrophe before what could be a formula, and before an apostrophe, so that it can be undone.

    >>> neutralise("=1+1"), neutralise("fine"), neutralise("'quoted'")
    ("'=1+1", 'fine', "''quoted'")
    """
    return GUARD + text if text.startswith((*FORMULA_STARTS, GUARD)) else text


def restore(cell: str) -> str:
    """Undoes `neutralise`."""
    return cell.removeprefix(GUARD)
