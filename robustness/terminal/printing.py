"""What commands print beside their one line: plans, the end of a run, errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from robustness.errors import CheckpointError, DataError
from robustness.terminal.console import SafeConsole

VERDICT_FOUND = 3
"""Exit code where a verdict that --fail-on names was given."""
SHOWN_NAMES, SHOWN_COSTS = 8, 10
"""Of a dry run: checkpoints or test sets, and attacks or probes; a plan of hundreds fits a page."""
PIPE_WIDTH = 80
"""Columns of the table when standard output is no terminal."""

stdout = SafeConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
stderr = SafeConsole(stderr=True)


def print_error(message: str) -> None:
    """Prints why a command ended."""
    stderr.tell(message, head="[bold red]error:[/] ")


def foretell(plan: Any, like: Path | None, tflops: float | None) -> None:
    """Prints on one page what a plan is of, what it costs, and what it can show; reads test sets once.

    Raises:
        RobustnessError: what a run would be refused for too, such as rows that are missing.
    """
    from robustness.terminal import dry_run

    print_plan(plan)
    draft = dry_run.draft(plan)
    try:
        estimate, rate = dry_run.estimate(draft, pilot=like, teraflops=tflops)
    except (DataError, CheckpointError) as error:  # such as a checkpoint of unknown architecture
        stderr.tell(f"no estimate: {error}")
    else:
        stdout.print(tabulate(estimate))
        for line in estimate.describe(rate):
            stdout.tell(line)
    for line in dry_run.describe_peak(draft):
        stdout.tell(line, indent="    ")
    for line in dry_run.foresee(draft, pilot=like):
        stdout.tell(line, indent="    ")


def print_plan(plan: Any) -> None:
    """Prints what a plan is of."""
    cells = [*plan.cells, *plan.probe_cells]
    for kind, names in (
        ("checkpoints", [cell.checkpoint for cell in cells]),
        ("test sets", [cell.testset for cell in cells if cell.testset]),
    ):
        stdout.tell(f"{kind}: {_few(list(dict.fromkeys(names)))}")
    limit = f", at most {plan.limit} examples each" if plan.limit else ""
    attacked = f", {plan.attacked} of the rows that both arms have right are attacked" if plan.attacked else ""
    meaning = "a cell: one checkpoint on one test set under one attack or probe"
    stdout.tell(f"{len(cells)} cells{limit}{attacked}; {meaning}")
    if plan.unserved:
        stdout.tell(f"not evaluated, for no pair has their tasks: {_few(plan.unserved)}")
    for line in plan.left_out:
        stderr.tell(line)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def tabulate(estimate: Any) -> Any:
    """Returns a table of texts run through the models and gradients, by attack or probe, the dearest first."""
    from robustness.reports.summaries.fitting import Column, FittingTable
    from robustness.runs.planning.estimate import round_count

    shares = estimate.shares()
    rows = [(escape(each.name), str(each.cells), each.backwards, each.forwards) for each in shares[:SHOWN_COSTS]]
    rest = shares[SHOWN_COSTS:]
    if rest:
        cells, backwards, forwards = (sum(each[place] for each in rest) for place in (1, 3, 2))
        rows.append((f"{len(rest)} others", str(cells), backwards, forwards))
    rows.append(("checks before the run", "", 0, estimate.gate_forwards))
    rows.append(("all", str(sum(each.cells for each in shares)), estimate.backwards, estimate.forwards))
    table = FittingTable([Column("", is_name=True), *map(Column, ("cells", "gradients", "forwards"))])
    for name, count, backwards, forwards in rows:
        table.rows.append((name, count, round_count(backwards) if backwards else "", round_count(forwards)))
    return table


def finish(report: Any, rules: Sequence[Any] = (), *, verbose: bool = False) -> None:
    """Prints the answer; ends with 3 where a rule fails, with 1 where rows errored or a pair was refused."""
    from robustness.reports.failing import find_failing
    from robustness.reports.summaries.ending import render_ending
    from robustness.reports.summaries.errors import describe_errors
    from robustness.reports.summaries.terminal import render_summary

    for part in (render_summary if verbose else render_ending)(report):
        stdout.print(part, soft_wrap=isinstance(part, str))
    for line in describe_errors(report):
        stderr.tell(line)
    if report.record.refused:
        stderr.tell(f"{len(report.record.refused)} pairs refused: see the warnings")
    failing = find_failing(report, rules)
    for line in failing:
        stderr.tell(line)
    if failing:
        raise typer.Exit(VERDICT_FOUND)
    if report.n_errored or report.n_errored_measurements or report.record.refused:
        raise typer.Exit(1)


def say(message: str) -> None:
    """Prints one line about the progress."""
    stderr.tell(message)
