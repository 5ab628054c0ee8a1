"""The tables of a report in other formats: Parquet for programs, LaTeX and Markdown for papers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import pandas as pd

from robustness.reports.tables.columns import COLUMNS, Table
from robustness.reports.tables.csvfiles import number_texts
from robustness.reports.visible import visible


class Format(StrEnum):
    """What `robustness report --format` writes beside the page."""

    CSV = "csv"
    PARQUET = "parquet"
    LATEX = "latex"
    MARKDOWN = "markdown"
    PAPER = "paper"
    """One table of the counted comparisons, as Markdown, LaTeX and CSV."""


ENDINGS = {Format.PARQUET: "parquet", Format.LATEX: "tex", Format.MARKDOWN: "md"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")


def export_tables(tables: dict[Table, pd.DataFrame], folder: Path, form: Format) -> list[Path]:
    r"""Writes every table in one format beside the CSV files, which are always there; returns the new files.

    LaTeX is a `tabular` with booktabs' rules, for `\input`; no text in it is ever a command.
    """
    if form in (Format.CSV, Format.PAPER):
        return []
    written = []
    for table, frame in tables.items():
        path = folder / f"{table}.{ENDINGS[form]}"
        draft = path.with_name(path.name + ".part")
        if form is Format.PARQUET:
            _typed(frame, table).to_parquet(draft, index=False)
        else:
            draft.write_text(to_latex(frame, table) if form is Format.LATEX else to_markdown(frame, table), "utf-8")
        draft.replace(path)
        written.append(path)
    return written


def _typed(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Text as text and numbers as numbers, also in columns that are empty."""
    typed = {
        column.name: frame[column.name].astype("string")
        if column.is_text
        else pd.to_numeric(frame[column.name]).astype("Float64")
        for column in COLUMNS[table]
    }
    return pd.DataFrame(typed)


def to_latex(frame: pd.DataFrame, table: Table) -> str:
    """Returns a tabular."""
    columns = COLUMNS[table]
    head = " & ".join(escape_latex(column.heading) for column in columns)
    lines = [" & ".join(row) + r" \\" for row in _rows(frame, table, escape_latex)]
    alignment = "".join("l" if column.is_text else "r" for column in columns)
    rules = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", head + r" \\", r"\midrule"]
    return "\n".join([*rules, *lines, r"\bottomrule", r"\end{tabular}", ""])


def to_markdown(frame: pd.DataFrame, table: Table) -> str:
    """Returns a pipe table."""
    columns = COLUMNS[table]
    heads = [escape_markdown(column.heading) for column in columns]
    return pipe_table(heads, [column.is_text for column in columns], _rows(frame, table, escape_markdown))


def pipe_table(heads: Sequence[str], are_texts: Sequence[bool], rows: Iterable[Iterable[str]]) -> str:
    """Returns a pipe table of escaped cells; numbers stand to the right.

    >>> print(pipe_table(["a", "b"], [True, False], [("x", "1")]), end="")
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    rule = "|" + "|".join(" --- " if is_text else " ---: " for is_text in are_texts) + "|"
    return "\n".join([lines[0], rule, *lines[1:], ""])


def escape_latex(text: str) -> str:
    r"""Text as LaTeX sets it.

    >>> escape_latex("50 % of a_b")
    '50 \\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in visible(text).replace("\n", " "))


def escape_markdown(text: str) -> str:
    r"""Text as Markdown shows it, in one cell.

    >>> escape_markdown("a|b *c*")
    'a\\|b \\*c\\*'
    """
    return _MARKDOWN.sub(r"\\\1", visible(text).replace("\n", " "))


def _rows(frame: pd.DataFrame, table: Table, escape: Callable[[str], str]) -> list[tuple[str, ...]]:
    cells = []
    for column in COLUMNS[table]:
        codes, distinct = pd.factorize(frame[column.name])
        texts = [escape(str(value)) for value in distinct] if column.is_text else number_texts(distinct)
        texts.append("")
        cells.append([texts[code] for code in codes.tolist()])
    return list(zip(*cells, strict=True))
