"""What commands print beside their one line: plans, the end of a run, errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from robustness.errors import CheckpointError, DataError
from robustness.terminal.console import SafeConsole

VERDICT_FOUND = 3
"""Exit code where a verdict that --fail-on names was given."""
PIPE_WIDTH = 80
"""Columns of the table when standard output is no terminal."""

stdout = SafeConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH)
stderr = SafeConsole(stderr=True)


def print_error(message: str) -> None:
    """Prints why a command ended."""
    stderr.tell(message, head="[bold red]error:[/] ")


def foretell(plan: Any, like: Path | None, tflops: float | None) -> None:
    """Prints the cells of a plan, what they cost, and what its comparisons can show; reads test sets once.

    Raises:
        RobustnessError: what a run would be refused for too, such as rows that are missing.
    """
    from robustness import api

    print_plan(plan)
    draft = api.draft(plan)
    try:
        estimate, rate = api.estimate(draft, pilot=like, teraflops=tflops)
    except (DataError, CheckpointError) as error:  # such as a checkpoint of unknown architecture
        stderr.tell(f"no estimate: {error}")
    else:
        for line in estimate.describe(rate):
            stdout.tell(line)
    for line in api.foresee(draft, pilot=like):
        stdout.tell(line, indent="    ")


def print_plan(plan: Any) -> None:
    """Prints the cells of a plan."""
    for cell in plan.cells:
        stdout.tell(f"{cell.checkpoint} | {cell.testset} | {cell.attack}")
    for cell in plan.probe_cells:
        stdout.tell(f"{cell.checkpoint} | {cell.testset or '-'} | {cell.probe}")
    limit = f", at most {plan.limit} examples each" if plan.limit else ""
    attacked = f", {plan.attacked} of the rows that both arms have right are attacked" if plan.attacked else ""
    stdout.print(f"{len(plan.cells) + len(plan.probe_cells)} cells{limit}{attacked}", soft_wrap=True)
    for name in plan.unserved:
        stderr.tell(f"no pair for the task of test set {name}: it will not be evaluated")
    for line in plan.left_out:
        stderr.tell(line)


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
