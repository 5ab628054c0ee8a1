"""What a notebook shows of a report: its answer, and the table for a paper."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from markupsafe import escape

from robustness.reports.tables.paper import spell_cells
from robustness.reports.visible import visible

ROWS = 12
"""Of the table; the rest is counted."""


def to_html(heading: str, answers: Sequence[str], table: pd.DataFrame) -> str:
    """Returns a heading, sentences and the first rows of a table, with all text escaped.

    Args:
        heading: Of the report.
        answers: A sentence or two each.
        table: Of `paper_table`.
    """
    parts = [f"<strong>{escape(visible(heading))}</strong>"]
    parts += [f"<p>{escape(visible(answer))}</p>" for answer in answers]
    if len(table):
        shown = spell_cells(table.head(ROWS), "\u2212", visible)
        parts.append(shown.to_html(index=False, escape=True, border=0))
    if len(table) > ROWS:
        parts.append(f"<p>and {len(table) - ROWS} more rows: see paper_table()</p>")
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'  # names may have dollar signs
