"""The table for a paper: every counted comparison in one table, as Markdown, LaTeX and CSV."""

from __future__ import annotations

from csv import QUOTE_ALL
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.controls import IDENTITY
from robustness.reports.comparisons.methods import pairs_of_methods, shown_rows
from robustness.reports.summaries.arms import Arms, arms_of_run, spell_verdict
from robustness.reports.summaries.tallies import controls
from robustness.reports.summaries.wording import join_words, short_p, signed, widen
from robustness.reports.tables.csvfiles import neutralise
from robustness.reports.tables.export import escape_latex, escape_markdown, pipe_table
from robustness.reports.visible import visible
from robustness.runs.cells import NO_ATTACK, WORST_CASE
from robustness.runs.storage.record import PairRecord, RunRecord
from robustness.stats import Verdict

ACCURACIES = frozenset({"accuracy", "robust_accuracy"})
"""Metrics that need no name: right answers, before or under an attack."""
TEXTS = ("pair", "test set", "attack", "metric", "verdict")
RESERVED = (*TEXTS, "n", "difference", "low", "high", "p")
"""Columns that no arm may be named as."""
INTERVAL = "difference, 95 % interval"
_PERCENT = 100


class PaperForm(StrEnum):
    """How the table for a paper is written, by file ending."""

    MARKDOWN = "md"
    LATEX = "tex"
    CSV = "csv"


def paper_table(pairs: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Returns the planned comparisons with clean accuracy and baselines; over seeds where a method has several.

    Args:
        pairs: pairs.csv's rows.
        record: The run's.

    Returns:
        Columns `pair` (of several), `test set`, `attack`, `metric` (unless all are accuracy), `n`, one of each arm
        (percent; named as the arms, else reference and candidate), `difference`, `low` and `high` (percentage points,
        above 0 the candidate is worse off), `p` (adjusted; empty of controls) and `verdict`.
    """
    rows = _chosen(pairs, record)
    arms = arms_of_run(_pairs_of(rows, record), record)
    names = {"pair": rows["pair"]} if rows["pair"].nunique() > 1 else {}
    metrics = {} if set(rows["metric"]) <= ACCURACIES else {"metric": rows["metric"].str.replace("_", " ")}
    reference, candidate = arms.shorts if not set(arms.shorts) & set(RESERVED) else ("reference", "candidate")
    numbers = {
        reference: _PERCENT * rows["reference_value"].astype(float),
        candidate: _PERCENT * rows["candidate_value"].astype(float),
        **{name: _PERCENT * rows[name].astype(float) for name in ("difference", "low", "high")},
    }
    return pd.DataFrame(
        {
            **names,
            "test set": rows["testset"],
            "attack": [_attack(row.attack) for row in rows.itertuples()],
            **metrics,
            "n": rows["n"].astype(int),
            **numbers,
            "p": rows["p_adjusted"].astype(float),
            "verdict": [_verdict(row, arms) for row in rows.itertuples()],
        }
    ).reset_index(drop=True)


def caption(pairs: pd.DataFrame, record: RunRecord) -> str:
    """Returns what a reader must know to read the table."""
    rows = _chosen(pairs, record)
    arms = arms_of_run(_pairs_of(rows, record), record)
    methods = {"holm": "Holm", "benjamini-hochberg": "Benjamini and Hochberg"}
    seeds = sorted({int(n) for n in rows["n_seeds"] if n > 1})
    rest = "; rows without seeds in their name are of one pair" if (rows["n_seeds"] == 1).any() else ""
    over = f" Means over {join_words([str(n) for n in seeds])} training seeds{rest}." if seeds else ""
    return (
        "Accuracy in percent; under an attack an example counts that is right before and after it. Difference: "
        f"{arms.reference.short} minus {arms.candidate.short} on the same examples, in percentage points with its "
        f"95 % interval; p by {methods[record.statistics.correction]}; a control has none.{over}"
    )


def write_paper(table: pd.DataFrame, note: str, form: PaperForm) -> str:
    """Returns the table in one form, its caption above or below it.

    Args:
        table: Of `paper_table`.
        note: Of `caption`.
        form: LaTeX needs the package booktabs; CSV keeps every number apart and has no caption.
    """
    if form is PaperForm.LATEX:
        return _to_latex(table, note)
    if form is PaperForm.CSV:
        texts = {name: table[name].map(neutralise) for name in TEXTS if name in table}
        safe = table.assign(**texts)
        return str(safe.to_csv(index=False, float_format="%.6g", lineterminator="\n", quoting=QUOTE_ALL))
    shown = spell_cells(table, "\u2212", escape_markdown)
    aligned = [name in TEXTS for name in shown]
    return pipe_table([escape_markdown(name) for name in shown], aligned, shown.itertuples(index=False)) + (
        f"\n{escape_markdown(note)}\n"
    )


def export_paper(pairs: pd.DataFrame, record: RunRecord, folder: Path) -> list[Path]:
    """Writes paper.md, paper.tex and paper.csv into a run folder and returns their paths."""
    table, note = paper_table(pairs, record), caption(pairs, record)
    written = []
    for form in PaperForm:
        path = folder / f"paper.{form}"
        path.write_text(write_paper(table, note, form), encoding="utf-8")
        written.append(path)
    return written


def _to_latex(table: pd.DataFrame, note: str) -> str:
    r"""A `table` with booktabs' rules; no text in it is ever a command."""
    shown = spell_cells(table, "$-$", escape_latex)
    alignment = "".join("l" if name in TEXTS else "r" for name in shown)
    shown.columns = pd.Index([escape_latex(name) for name in shown])
    style = shown.style.hide(axis="index")
    return str(
        style.to_latex(hrules=True, column_format=alignment, caption=escape_latex(note), position_float="centering")
    )


def spell_cells(table: pd.DataFrame, minus: str, escape: Any) -> pd.DataFrame:
    """Returns cells as readers see them, the interval beside its difference.

    Args:
        table: Of `paper_table`.
        minus: The sign of numbers below 0.
        escape: Makes text safe where the table goes.
    """
    first = list(table.columns[: table.columns.get_loc("difference")])
    texts = [name for name in first if name in TEXTS]
    arms = [name for name in first if name not in (*TEXTS, "n")]
    interval = [
        f"{_points(row.difference, minus)} [{', '.join(_points(end, minus) for end in _wide(row))}]"
        for row in table.itertuples()
    ]
    return pd.DataFrame(
        {
            **{name: table[name].map(escape) for name in texts},
            "n": table["n"].map("{:,}".format),
            **{f"{name}, %": table[name].map("{:.1f}".format) for name in arms},
            INTERVAL: interval,
            "p": table["p"].map(short_p).map(escape),
            "verdict": table["verdict"].map(escape),
        }
    )


def _wide(row: Any) -> tuple[float, float]:
    """Ends rounded outwards, so that no interval reads as if it kept within a margin that it crosses."""
    low, high = widen(row.low / _PERCENT, row.high / _PERCENT)
    return _PERCENT * low, _PERCENT * high


def _points(value: float, minus: str) -> str:
    return "not known" if pd.isna(value) else signed(value / _PERCENT).replace("\u2212", minus)


def _chosen(pairs: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    rows = shown_rows(pairs, record)
    beside = controls(rows)
    beside = beside[beside["attack"] != IDENTITY]
    kept = rows.index.isin(beside.index) | (rows["family"] == Family.PLANNED)
    return rows[kept]


def _pairs_of(rows: pd.DataFrame, record: RunRecord) -> list[PairRecord]:
    """The pairs that rows are of, and that the methods of pooled rows are of."""
    named = set(rows["pair"])
    of_methods = {pair.name for mine in pairs_of_methods(named, record).values() for pair in mine}
    return [pair for pair in record.pairs if pair.name in named | of_methods] or list(record.pairs)


def _attack(name: str) -> str:
    return {NO_ATTACK: "none", WORST_CASE: "worst case"}.get(name, visible(name))


def _verdict(row: Any, arms: Arms) -> str:
    known = isinstance(row.verdict, str) and row.verdict
    return spell_verdict(Verdict(row.verdict), arms, row.difference) if known else ""
