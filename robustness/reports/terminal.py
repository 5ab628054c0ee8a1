"""The short table at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table as RichTable

from robustness.reports.columns import Table
from robustness.reports.report import Report

VERDICT_STYLES = {"peft-more-fragile": "red", "full-more-fragile": "blue", "equivalent": "green"}


def render_summary(report: Report) -> Iterator[RichTable | str]:
    """Yields what a user sees first: clean accuracies, one line per comparison, warnings, where the files are."""
    for pair in report.record.pairs:
        full, peft = (report.record.find_checkpoint(name) for name in (pair.full, pair.peft))
        yield escape(
            f"pair {pair.name}: clean accuracy full {full.clean_accuracy:.3f}, {peft.adaptation} "
            f"{peft.clean_accuracy:.3f} on {full.n_clean} examples (majority class {full.majority_share:.3f})"
        )
    yield _comparisons(report)
    yield "difference: full minus PEFT, positive means PEFT is more fragile; p adjusted by Holm; 95 % intervals"
    if len({pair.seed for pair in report.record.pairs}) < 2:
        yield "one training seed: this compares these checkpoints, not the methods"
    if report.missing:
        yield f"{report.missing} outcomes are missing: the run was interrupted; the same command goes on"
    for warning in report.record.warnings:
        yield escape(f"warning: {warning}")
    yield escape(f"tables in {report.folder}: " + ", ".join(f"{table}.csv" for table in report.tables))


def _comparisons(report: Report) -> RichTable:
    table = RichTable(title=f"suite {report.record.suite}, all examples")
    for name in ("pair", "test set", "attack"):
        table.add_column(name, overflow="fold")
    for name in ("n", "full", "PEFT", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    pairs = report.tables[Table.PAIRS]
    for row in pairs[pairs["population"] == "all"].itertuples():
        style = VERDICT_STYLES.get(row.verdict, "default")
        table.add_row(
            escape(row.pair),
            escape(row.testset),
            escape(row.attack),
            str(row.n),
            f"{row.full_value:.3f}",
            f"{row.peft_value:.3f}",
            f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]".replace("[", r"\["),
            f"{row.p_adjusted:.2g}",
            f"[{style}]{row.verdict}[/]",
        )
    return table
