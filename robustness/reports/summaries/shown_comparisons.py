"""The comparisons that a terminal has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich.markup import escape

from robustness.reports.comparisons.comparison import Family
from robustness.reports.comparisons.qa_tables import METRICS
from robustness.reports.summaries.arms import Arms, arms_of_run
from robustness.reports.summaries.cells import VERDICT, arm_column, name_compared, verdict_cell
from robustness.reports.summaries.fitting import Column, FittingTable, Part, Sentence
from robustness.reports.summaries.sentences import efforts_at_floor
from robustness.reports.summaries.summary import Summary
from robustness.reports.summaries.tallies import controls, of_family
from robustness.reports.summaries.wording import signed, widen
from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.record import RunRecord

MOST_ROWS = 12


def render_comparisons(answers: Sequence[Summary], pairs: pd.DataFrame, record: RunRecord) -> Iterator[Part]:
    """Yields one table for all answers; of many comparisons those of the strongest attacks, the largest first."""
    found = [(answer, rows) for answer in answers if len(rows := _rows_of(answer, pairs))]
    total = sum(len(rows) for _, rows in found)
    if total > MOST_ROWS:
        found = [(answer, _strongest(answer, rows)) for answer, rows in found]
    whole = [(answer, _with_clean(rows, pairs[pairs["pair"] == answer.name])) for answer, rows in found]
    if sum(len(rows) for _, rows in whole) <= MOST_ROWS:
        found = whole
    lines = [(answer, row) for answer, rows in found for row in rows.itertuples()]
    if len(lines) > MOST_ROWS:
        lines = sorted(lines, key=lambda line: -abs(line[1].difference))[:MOST_ROWS]
    if not lines:
        return
    arms = answers[0].arms if len(answers) == 1 else arms_of_run([p for each in answers for p in each.pairs], record)
    shared = {"on {}": {row.testset for _, row in lines}, "n = {:.0f}": {row.n for _, row in lines}}
    same = [words.format(*values) for words, values in shared.items() if len(values) == 1]
    yield Sentence(f"{', '.join(['right answers in %', *same])}; difference in points with 95 % interval:")
    yield _table(lines, arms, with_name=len(answers) > 1)
    shown = f"; {len(lines)} of {total} comparisons" if total > len(lines) else ""
    yield Sentence(f"difference above 0: {arms.candidate.name} is worse off{shown}")


def _rows_of(answer: Summary, pairs: pd.DataFrame) -> pd.DataFrame:
    """The planned comparisons with effort where accuracy tells nothing; without any, the controls."""
    rows = pairs[pairs["pair"] == answer.name]
    planned = of_family(rows, Family.PLANNED)
    if planned.empty:
        return controls(rows)
    efforts = efforts_at_floor(planned, rows)
    return pd.concat([planned, efforts]) if len(efforts) else planned


def _with_clean(rows: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Above the attacks on each test set what both arms have right before; rows without attack are there already."""
    known = set(rows.index)
    clean = controls(every)
    clean = clean[(clean["attack"] == NO_ATTACK) & clean["testset"].isin(set(rows["testset"]))]
    both = pd.concat([clean[[index not in known for index in clean.index]], rows])
    order = {testset: place for place, testset in enumerate(dict.fromkeys(rows["testset"]))}
    return both.iloc[both["testset"].map(order).argsort(kind="stable")]


def _strongest(answer: Summary, rows: pd.DataFrame) -> pd.DataFrame:
    """Of each test set the attack that leaves least; of controls all."""
    places = {(kept.testset, kept.attack) for kept in answer.kept}
    return rows[[place in places for place in zip(rows["testset"], rows["attack"], strict=True)]] if places else rows


def _table(lines: Sequence[tuple[Summary, Any]], arms: Arms, *, with_name: bool) -> FittingTable:
    """A column that would say the same in every row is left out."""
    names = {
        "pair": [answer.name for answer, _ in lines] if with_name else [],
        "test set": [row.testset for _, row in lines],
        "attack": [_label(row) for _, row in lines],
    }
    kept = {head: cells for head, cells in names.items() if head == "attack" or len(set(cells)) > 1}
    sizes = [Column("n")] if len({row.n for _, row in lines}) > 1 else []
    numbers = [*sizes, arm_column(arms.reference.short), arm_column(arms.candidate.short), Column("difference")]
    table = FittingTable([*(Column(head, is_name=True) for head in kept), *numbers, VERDICT])
    for (answer, row), *labels in zip(lines, *kept.values(), strict=True):
        table.rows.append(
            (
                *map(escape, labels),
                *([f"{row.n:.0f}"] if sizes else []),
                f"{100 * row.reference_value:.1f}",
                f"{100 * row.candidate_value:.1f}",
                escape(f"{signed(row.difference)} {_interval(row.low, row.high)}"),
                verdict_cell(row, answer.arms),
            )
        )
    return table


def _label(row: Any) -> str:
    plain = name_compared(row)
    return f"no attack, {plain}" if row.attack == NO_ATTACK and row.metric in METRICS else plain


def _interval(low: float, high: float) -> str:
    down, up = widen(low, high)
    return "[not known]" if pd.isna(down + up) else f"[{signed(down)}, {signed(up)}]"
