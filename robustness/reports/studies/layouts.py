"""The table of a study for a paper: a row for each method, a column for each test set and attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pandas as pd

from robustness.errors import UsageError
from robustness.reports.comparisons.methods import FULL
from robustness.reports.studies.folder import Matching
from robustness.reports.studies.scores import POOLED
from robustness.reports.studies.titles import planned_cells, title_cell
from robustness.reports.summaries.wording import signed, widen
from robustness.reports.tables.export import escape_latex, escape_markdown, pipe_table
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.stats import CANDIDATE_FRAGILE, REFERENCE_FRAGILE, Verdict


class Layout(StrEnum):
    """Which test sets and attacks are columns."""

    WHOLE = "whole"
    """All of the study."""
    COMPACT = "compact"
    """All planned cells as one, and the worst case of each test set; matched beside unmatched."""
    PAPER = "paper-2505.22355"
    """The eleven adversarial test sets of arXiv 2505.22355, as they stand, in its order."""


ELEVEN = (
    *("advglue-sst2", "advglue-qqp", "advglue-mnli", "advglue-mnli-mm", "advglue-qnli", "advglue-rte"),
    *("advsquad-addsent", "advsquad-addany", "advsquad-addanyextend", "advsquad-addansctx", "advsquad-addnegans"),
)
MARKS = {
    **dict.fromkeys(CANDIDATE_FRAGILE, ("\u25b6", r"$\triangleright$")),
    **dict.fromkeys(REFERENCE_FRAGILE, ("\u25c0", r"$\triangleleft$")),
    Verdict.LESS_ACCURATE: ("\u25c6", r"$\diamond$"),
    Verdict.EQUIVALENT: ("\u25a0", "$=$"),
    Verdict.INCONCLUSIVE: ("\u25cb", r"$\circ$"),
}
"""Of verdicts, for readers and for LaTeX without further packages."""
CELLS_ACROSS = 3
"""Cells that fit beside the method's columns on a page of LaTeX's article class in its footnote size."""
ROWS_DOWN = 24
"""Methods that fit on a page, two lines each."""
_VARYING = {"rows": "rows", "matching": "matched"}
HEADS = ("method", "trained", "share", "seeds")


@dataclass(frozen=True, slots=True)
class PlacedCell:
    """One cell of the table: what a method scores, and how it compares with full fine-tuning."""

    score: str
    """Clean to robust in percent, with the standard deviation over seeds."""
    difference: str
    """With its interval in points; empty for full itself."""
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """One method."""

    heads: tuple[str, ...]
    cells: tuple[PlacedCell | None, ...]
    """None where the study has no such cell."""
    reason: str = ""
    """Why there is none at all."""


@dataclass(frozen=True, slots=True)
class PlacedTable:
    """The whole table, as text."""

    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[PlacedRow, ...]


Key = tuple[str, str, str, str]
"""Matching, task, test set and attack of a column; of an empty matching it is the row's, of an empty task any."""


def place(table: pd.DataFrame, layout: Layout = Layout.WHOLE) -> PlacedTable:
    """Returns the study's table in a layout.

    Args:
        table: Of `build_study_table`.
        layout: Its columns. A test set of the paper's that the study lacks stays an empty column. In the compact one
            matched columns stand beside unmatched ones, in the others below them.
    """
    is_beside = layout is Layout.COMPACT
    filled = table.astype({"rows": "float64"}).fillna({"rows": -1.0})
    by_cell = {
        (row.rows, row.method, row.matching, row.task, row.testset, row.attack): row for row in filled.itertuples()
    }
    matchings = list(dict.fromkeys(table["matching"])) if is_beside else [""]
    keys = [(matching, *key) for key in _columns(table, layout) for matching in matchings]
    names, rows = _heads(table, is_beside=is_beside), []
    if is_beside:
        groups = filled.groupby(["rows", "method"], sort=False)
    else:
        has_best = (table["matching"] == Matching.BEST).any()
        repeated = (table["family"] == FULL) & (table["matching"] == Matching.CLEAN) & has_best  # it serves both
        groups = filled[~repeated].groupby(["rows", "matching", "method"], sort=False)
    for _, part in groups:
        cells = [_find(by_cell, part.iloc[0], key) for key in keys]
        reasons = part.loc[part["testset"].isna(), "reason"].dropna().unique()
        reason = "" if any(cells) else "; ".join(reasons)
        rows.append(PlacedRow(_head_cells(part, names), tuple(cells), reason))
    return PlacedTable(tuple(names), tuple(_titles(table, keys)), tuple(rows))


def _find(by_cell: dict[Any, Any], first: Any, key: Key) -> PlacedCell | None:
    matching, task, testset, attack = key
    row = (first["rows"], first["method"], matching or first["matching"])
    if task:
        found = by_cell.get((*row, task, testset, attack))
    else:
        found = next(
            (each for name, each in by_cell.items() if name[:3] == row and name[4:] == (testset, attack)), None
        )
    return None if found is None else _cell(found)


def _columns(table: pd.DataFrame, layout: Layout) -> list[tuple[str, str, str]]:
    """Task, test set and attack of each; all as one is left out of a task that has one planned cell."""
    if layout is Layout.PAPER:
        return [("", name, NO_ATTACK) for name in ELEVEN]
    listed = table[table["testset"].notna()]
    keys = list(dict.fromkeys(zip(listed["task"], listed["testset"], listed["attack"], strict=True)))
    planned = {task: planned_cells(table, task) for task in dict.fromkeys(key[0] for key in keys)}
    keys = [key for key in keys if key[1] != POOLED or len(planned[key[0]]) != 1]
    if layout is Layout.WHOLE:
        return keys
    kept = []
    for task, testset in dict.fromkeys(key[:2] for key in keys):
        attacks = [key[2] for key in keys if key[:2] == (task, testset)]
        worst = [attack for attack in attacks if attack in (WORST_CASE, POOLED)]
        tested = [attack for attack in attacks if (testset, attack) in planned[task]]
        attacked = [attack for attack in attacks if attack != NO_ATTACK]
        kept.append((task, testset, (worst or tested or attacked or attacks)[0]))
    return sorted(kept, key=lambda key: key[1] != POOLED)


def _titles(table: pd.DataFrame, keys: Sequence[Key]) -> Iterator[str]:
    several_tasks, several_matchings = table["task"].nunique() > 1, len({key[0] for key in keys}) > 1
    for matching, task, testset, attack in keys:
        planned = planned_cells(table, task)
        is_control = bool(planned) and attack not in (NO_ATTACK, POOLED) and (testset, attack) not in planned
        title = title_cell(testset, attack, is_control=is_control)
        if testset == POOLED:
            title = f"all of {task}" if several_tasks else "all"
        yield title + (", matched" if several_matchings and matching == Matching.CLEAN else "")


def _heads(table: pd.DataFrame, *, is_beside: bool) -> list[str]:
    """The method's columns; training rows where these vary, and matching unless it is beside."""
    varying = ("rows",) if is_beside else tuple(_VARYING)
    beside = [_VARYING[name] for name in varying if table[name].nunique() > 1]
    return [HEADS[0], *beside, *HEADS[1:]]


def _head_cells(part: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    first = part.iloc[0]
    share, seeds = part["trainable_share"].astype(float).mean(), sorted(set(part["n_seeds"].dropna().astype(int)))
    words = {
        "method": str(first["method"]),
        "rows": "" if first["rows"] < 0 else f"{int(first['rows']):,}",
        "matched": {Matching.BEST: "no", Matching.CLEAN: "clean"}[Matching(first["matching"])],
        "trained": short_count(part["trainable_parameters"].astype(float).mean()),
        "share": "" if pd.isna(share) else f"{100 * share:.3g} %",
        "seeds": " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]]))) if seeds else "0",
    }
    return tuple(words[name] for name in names)


def short_count(value: float) -> str:
    """A number of parameters in three digits.

    >>> short_count(22_713_216), short_count(9_400), short_count(512), short_count(float("nan"))
    ('22.7 M', '9.4 k', '512', '')
    """
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return "" if pd.isna(value) else f"{value:.3g}"


def _cell(row: Any) -> PlacedCell:
    spread = "" if pd.isna(row.sd) else f" \u00b1 {100 * row.sd:.1f}"
    before = ""
    if not pd.isna(row.clean_value):
        of = f" ({row.n_clean:.0f})" if row.n_clean < row.n else ""
        before = f"{100 * row.clean_value:.1f}{of} \u2192 "
    score = f"{before}{100 * row.value:.1f}{spread}"
    if pd.isna(row.difference):
        return PlacedCell(score, "")
    low, high = (signed(end) for end in widen(row.low, row.high))
    ends = "" if "nan" in low + high else f" [{low}, {high}]"
    return PlacedCell(score, f"{signed(row.difference)}{ends}", str(row.verdict))


def to_frame(placed: PlacedTable) -> pd.DataFrame:
    """Returns the table as text, a column for each test set and attack."""
    rows = [
        dict(zip(placed.heads, row.heads, strict=True))
        | {name: _plain(cell) for name, cell in zip(placed.columns, row.cells, strict=True)}
        for row in placed.rows
    ]
    return pd.DataFrame(rows, columns=[*placed.heads, *placed.columns])


def _plain(cell: PlacedCell | None) -> str:
    if cell is None:
        return ""
    mark = MARKS[Verdict(cell.verdict)][0] if cell.verdict else ""
    return " ".join(filter(None, (cell.score, cell.difference, mark)))


def to_markdown(placed: PlacedTable, note: str) -> str:
    """Returns a pipe table with its caption below."""
    shown = to_frame(placed)
    aligned = [name == "method" for name in shown]
    rows = ([escape_markdown(text) for text in row] for row in shown.itertuples(index=False))
    failed = [f"{row.heads[0]}: {row.reason}" for row in placed.rows if row.reason]
    notes = "\n\n".join(escape_markdown(text) for text in (note, *failed))
    return pipe_table([escape_markdown(name) for name in shown], aligned, rows) + f"\n{notes}\n"


def to_latex(placed: PlacedTable, note: str) -> str:
    r"""Returns one `table` or several, each of which fits a page; they need booktabs, and no text is a command.

    Many columns are split into parts below each other, many methods into pages.
    """
    pages = []
    for first_row in range(0, max(1, len(placed.rows)), ROWS_DOWN):
        rows = placed.rows[first_row : first_row + ROWS_DOWN]
        for first in range(0, max(1, len(placed.columns)), CELLS_ACROSS):
            part = slice(first, first + CELLS_ACROSS)
            pages.append(_tabular(placed.heads, placed.columns[part], [(row.heads, row.cells[part]) for row in rows]))
    caption = escape_latex(note)
    return "\n".join(_float(page, caption if number == 0 else "Continued.") for number, page in enumerate(pages))


def _float(tabular: str, caption: str) -> str:
    begin = r"\begin{table}" + "\n" + r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    return "\n".join([begin, rf"\caption{{{caption}}}", tabular, r"\end{table}", ""])


def _tabular(
    heads: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[tuple[str, ...], tuple[PlacedCell | None, ...]]],
) -> str:
    titles = [_broken(escape_latex(name)) for name in columns]
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1 + len(columns))}}}", r"\toprule"]
    lines += [" & ".join([*(escape_latex(name) for name in heads), *titles]) + r" \\", r"\midrule"]
    for names, cells in rows:
        lines.append(" & ".join([*map(escape_latex, names), *(_latex(cell, _score) for cell in cells)]) + r" \\")
        if any(cell is not None and cell.difference for cell in cells):
            lines.append(" & ".join([*([""] * len(names)), *(_latex(cell, _difference) for cell in cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _broken(title: str) -> str:
    """The attack below the test set."""
    return rf"\shortstack[r]{{{title.replace(', ', chr(92) * 2)}}}" if ", " in title else title


def _latex(cell: PlacedCell | None, show: Callable[[PlacedCell], str]) -> str:
    return "" if cell is None else show(cell)


def _score(cell: PlacedCell) -> str:
    return cell.score.replace("\u2192", r"$\to$").replace("\u00b1", r"$\pm$")


def _difference(cell: PlacedCell) -> str:
    mark = f" {MARKS[Verdict(cell.verdict)][1]}" if cell.verdict else ""
    return cell.difference.replace("\u2212", "$-$") + mark


def find_layout(name: str) -> Layout:
    """Returns the layout of a name; raises UsageError with the known names."""
    try:
        return Layout(name)
    except ValueError:
        raise UsageError(f"no layout {name!r}; expected {', '.join(Layout)}") from None


def legend() -> Iterator[tuple[str, str]]:
    """Yields each mark with its meaning."""
    meanings = {
        Verdict.PEFT_MORE_FRAGILE: "method more fragile",
        Verdict.FULL_MORE_FRAGILE: "full more fragile",
        Verdict.LESS_ACCURATE: "a difference of accuracy that is no evidence of fragility",
        Verdict.EQUIVALENT: "equivalent within 2 points",
        Verdict.INCONCLUSIVE: "inconclusive",
    }
    for verdict, words in meanings.items():
        yield MARKS[verdict][0], words
