"""What `robustness study` prints: what it will cost, and how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from robustness.errors import UsageError
from robustness.paths import expand
from robustness.terminal.printing import stderr, stdout

if TYPE_CHECKING:
    from robustness.options import StudySettings
    from robustness.studies.run import StudyResult

PAGE = "study.html"
SHOWN_REASONS = 6
"""Of jobs that gave no result."""


def finish_study(result: StudyResult) -> None:
    """Prints how a study's jobs ended; exits with 1 where some gave no result."""
    from robustness.studies.journal import State

    done = {key for key, ended in result.ended.items() if ended.state is State.DONE}
    lost = [job for job in result.graph.jobs if job.id not in done]
    for answer in result.answers:
        stdout.tell(answer)
    if (page := result.folder / PAGE).is_file():
        stdout.tell(f"page: {page}")
    stdout.tell(f"{len(done)} of {len(result.graph.jobs)} jobs are done: {result.folder / 'jobs.csv'}")
    for job in lost[:SHOWN_REASONS]:
        ended = result.ended.get(job.id)
        stderr.tell(f"{job.kind} {job.name}: {ended.state if ended else 'missing'}: {ended.reason if ended else ''}")
    if len(lost) > SHOWN_REASONS:
        stderr.tell(f"and {len(lost) - SHOWN_REASONS} more, see jobs.csv")
    if lost:
        raise typer.Exit(1)


def holds_study(folder: Path) -> bool:
    """Whether `robustness study` wrote a folder."""
    from robustness.reports.studies.folder import FILE_NAME  # imports no torch

    return (Path(expand(folder)) / FILE_NAME).is_file()


def finish_study_report(folder: Path, *, is_plain: bool) -> None:
    """Writes the tables and pages of a study again, and prints its answers.

    Raises:
        UsageError: an option that only the report of a run takes.
    """
    from robustness.study_call import report_study

    if not is_plain:
        raise UsageError(
            f"{folder}: is a study; options change the report of a run alone, such as {folder}/runs/NAME"
        )
    for answer in report_study(folder):
        stdout.tell(answer)
    stdout.tell(f"page: {Path(expand(folder)) / PAGE}")


def foretell_study(study: str, out: Path, settings: StudySettings, tflops: float | None) -> None:
    """Prints what a study consists of, what it costs, and what it can show.

    Raises:
        RobustnessError: what the study would be refused for too, such as rows beyond the data.
    """
    from robustness.reports.summaries.fitting import Column, FittingTable
    from robustness.study_call import forecast_study

    found = forecast_study(study, out, settings, tflops)
    table = FittingTable([Column("", is_name=True), *map(Column, ("jobs", "hours", "gigabytes"))])
    for part in found.parts:
        table.rows.append((escape(part.name), str(part.jobs), *_spell(part.hours(found.rate.flops), part.size)))
    hours, size = sum(part.hours(found.rate.flops) for part in found.parts), sum(part.size for part in found.parts)
    table.rows.append(("all", str(found.jobs - found.done), *_spell(hours, size)))
    stdout.print(table)
    stdout.tell(
        f"{found.done} of {found.jobs} jobs are done; {found.rate.flops / 1e12:.2g} TFLOP/s: {found.rate.device}"
    )
    for line in found.lines:
        stdout.tell(line, indent="    ")


def _spell(hours: float, size: float) -> tuple[str, str]:
    return f"{hours:.2g}", f"{size / 1e9:.2g}"
