"""The short table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from robustness.engine.goal import GoalKind
from robustness.reports.answers import clean_gap, is_answering, opposite_drops
from robustness.reports.columns import Table
from robustness.reports.comparison import RunComparison
from robustness.reports.page import FILE_NAME as PAGE
from robustness.reports.pairs import IRREDUCIBLE_SHARE
from robustness.reports.probes import render_probes
from robustness.reports.questions import METRICS
from robustness.reports.report import Report
from robustness.runs.progress import CellProgress
from robustness.stats import Correction

CORRECTIONS = {Correction.HOLM: "Holm", Correction.BENJAMINI_HOCHBERG: "Benjamini and Hochberg"}
PAIRS_WITH_PROBES = 4
"""With more pairs, what probes measured is left to the files."""
MOSTLY_SEEDS = 0.5
VERDICT_STYLES = {"peft-more-fragile": "red", "full-more-fragile": "blue", "equivalent": "green"}


def render_summary(report: Report) -> Iterator[RichTable | str]:
    """Yields what a user sees first: clean accuracies, one line per comparison, warnings, where the files are."""
    pairs = report.tables[Table.PAIRS]
    for pair in report.record.pairs:
        full, peft = (report.record.find_checkpoint(name) for name in (pair.reference, pair.candidate))
        metric, floor = (
            ("F1", "the whole paragraph as answer") if is_answering(pair.task) else ("accuracy", "majority class")
        )
        yield escape(
            f"pair {pair.name} | clean {metric}: full {full.clean_accuracy:.3f}, {peft.adaptation} "
            f"{peft.clean_accuracy:.3f} (n = {full.n_clean}, {floor} {full.majority_share:.3f})"
        )
        shown = (pairs["population"] == "all") | (pairs["metric"] == IRREDUCIBLE_SHARE)
        yield _comparisons(mine := pairs[(pairs["pair"] == pair.name) & shown])
        yield from (*clean_gap([pair], report.record), *opposite_drops(mine))
        if len(report.record.pairs) <= PAIRS_WITH_PROBES:
            yield from render_probes(report.tables, pair, report.record)
    if len(report.record.pairs) > PAIRS_WITH_PROBES and len(report.tables[Table.SENSITIVITY]):
        yield "what probes measured fills pages for so many pairs: see sensitivity_pairs.csv and report.html"
    yield from _over_seeds(pairs[(pairs["n_seeds"].astype(float) > 1) & (pairs["population"] == "all")])
    correction = CORRECTIONS[Correction(report.record.statistics.correction)]
    score = "score" if any(is_answering(pair.task) for pair in report.record.pairs) else "accuracy"
    yield (
        f"difference = full - PEFT {score} with 95 % interval: above 0, PEFT is more fragile; "
        f"p adjusted by {correction}"
    )
    for attack in (attack.name for attack in report.record.attacks if attack.goal == GoalKind.KEEP_PREDICTION):
        yield escape(f"{attack}: share of texts that could not be reduced, of those both get right; no accuracy")
    if len({pair.seed for pair in report.record.pairs}) < 2:
        yield "one training seed: this compares two checkpoints, not two methods"
    if report.missing:
        yield f"{report.missing} outcomes are missing: the run was interrupted; the same command goes on"
    yield from map(escape, report.disagreements)
    if report.missing_measurements:
        yield f"{report.missing_measurements} probe cells are missing: the same command goes on"
    for warning in report.record.warnings:
        yield escape(f"warning: {warning}")
    yield escape(f"tables in {report.folder}: " + ", ".join(f"{table}.csv" for table in report.tables))
    yield escape(f"page: {report.folder / PAGE}")


def _what(row: Any) -> str:
    """The attack; of answers as they stand, what is compared."""
    if row.metric not in METRICS:
        return str(row.attack)
    return str(row.metric).replace("_", " ") + (", worst per group" if row.aggregation != "mean" else "")


def _over_seeds(rows: pd.DataFrame) -> Iterator[RichTable | str]:
    """Every method beside full fine-tuning in one table, place by place, and where its seeds tell most."""
    if rows.empty:
        return
    names = rows["pair"].unique()
    title = str(names[0]) if len(names) == 1 else "every method beside full fine-tuning, training seeds"
    yield escape(f"{title} together, drawn anew with their examples")
    places = rows.groupby(["testset", "attack", "metric", "aggregation"], sort=False).ngroup()
    yield _comparisons(rows.loc[places.sort_values(kind="stable").index], with_method=len(names) > 1)
    uncertain = rows[rows["seed_share"].astype(float) >= MOSTLY_SEEDS]
    yield "standard deviations of the difference between training seeds are in pairs.csv" + (
        "; seeds are half of the uncertainty or more at" if len(uncertain) else ""
    )
    for row in uncertain.itertuples():
        spread = f"{row.seed_sd:.3f} [{row.seed_sd_low:.2f}, {row.seed_sd_high:.2f}], {row.seed_share:.0%}"
        yield escape(f"  {row.method} | {row.testset} | {_what(row)}: {spread}")


def _comparisons(rows: pd.DataFrame, *, with_method: bool = False) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in (["method"] if with_method else []) + ["test set", "attack"]:
        table.add_column(name, overflow="fold")  # where the terminal is narrow these give way, never a number
    for name in ("n", "full", "PEFT", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows.itertuples():
        style = VERDICT_STYLES.get(row.verdict, "default")
        table.add_row(
            *([escape(row.method)] if with_method else []),
            escape(row.testset),
            escape(_what(row)),
            str(row.n),
            f"{row.reference_value:.3f}",
            f"{row.candidate_value:.3f}",
            escape(f"{row.difference:+.3f} [{row.low:+.2f}, {row.high:+.2f}]"),
            f"{row.p_adjusted:.2g}",
            f"[{style}]{row.verdict}[/]",
        )
    return table


CHANGE_STYLES = {"lower": "red", "higher": "green"}


def render_comparison(comparison: RunComparison) -> Iterator[RichTable | str]:
    """Yields what was set otherwise, a line for each cell both runs have, and the cells only one has."""
    for name, first, second in comparison.settings:
        yield escape(f"{name}: {first} -> {second}")
    yield _changes(comparison.cells)
    yield "A - B on the examples both runs have, with 95 % interval: above 0, accuracy is lower in B"
    for run, cells in (("A", comparison.only_a), ("B", comparison.only_b)):
        if cells:
            yield escape(f"only in {run}: {'; '.join(cells[:8])}" + (" ..." if len(cells) > 8 else ""))


def _changes(rows: pd.DataFrame) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in ("checkpoint", "test set", "attack"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "A", "B", "A - B", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    for row in rows.itertuples():
        style = CHANGE_STYLES.get(row.change, "default")
        table.add_row(
            escape(row.checkpoint),
            escape(row.testset),
            escape(row.attack),
            str(row.n),
            f"{row.value_a:.3f}",
            f"{row.value_b:.3f}",
            escape(f"{row.difference:+.3f} [{row.low:+.2f}, {row.high:+.2f}]"),
            f"{row.p_adjusted:.2g}",
            f"[{style}]{row.change}[/]",
        )
    return table


def render_cell(cell: CellProgress) -> str:
    """The arms' live scores side by side, and how fast the cell runs.

    >>> from robustness.runs.progress import LiveScore
    >>> render_cell(CellProgress(40, 80, 312.4, (LiveScore("full", 0.5, 80), LiveScore("lora", 0.4, 40))))
    'full 0.500 (n = 80)  lora 0.400 (n = 40)  312 queries/s'
    """
    scores = [f"{score.checkpoint} {score.accuracy:.3f} (n = {score.n})" for score in cell.scores]
    speed = [f"{cell.queries_per_second:,.0f} queries/s"] if cell.queries_per_second >= 0.5 else []
    return "  ".join([*scores, *speed])
