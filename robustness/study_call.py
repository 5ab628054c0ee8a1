"""The public call for a study, and what it would cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.definitions.studies import find_study
from robustness.errors import UsageError, shorten
from robustness.options import PathLike, StudySettings
from robustness.paths import expand, find_data
from robustness.progress import ProgressCallback
from robustness.studies.conduct import Conduct, Reporting
from robustness.workers.execution import Execution

if TYPE_CHECKING:
    from robustness.studies.design import Design
    from robustness.studies.foresight import Forecast
    from robustness.studies.run import StudyResult


def study(
    study: PathLike,
    out: PathLike,
    settings: StudySettings | None = None,
    *,
    on_message: Callable[[str], None] | None = None,
    on_progress: ProgressCallback | None = None,
    execution: Execution | None = None,
) -> StudyResult:
    """Trains, gates, runs and reports a whole study; the same call again does only what is missing.

    Args:
        study: a shipped study's name, such as smoke, or a study's file.
        out: the study's folder.
        settings: data folder and device; None for the defaults.
        on_message: called with one line after every job, and every epoch of a training.
        on_progress: called with what runs and how much is done.
        execution: executor and workers; None: this process. Results do not depend on it.

    Returns:
        What became of every job. The tables lie in the folder.

    Raises:
        RobustnessError: bad input, a folder that holds something else, or a full disk.

    Example:
        ```python
        result = robustness.study("smoke", "studies/smoke")
        print(result.folder / "study.html")
        ```
    """
    if not isinstance(out, PathLike):
        raise UsageError(f"study: out: expected a path; got {shorten(repr(out))}")
    from robustness.studies.run import run_study  # a report of a run needs none of it

    chosen = settings or StudySettings()
    conduct = Conduct(chosen.device, execution or Execution(), on_message or _ignore, on_progress)
    return run_study(design_study(study, chosen), Path(expand(out)), _reporting(), conduct)


def report_study(folder: PathLike) -> tuple[str, ...]:
    """Writes the tables and pages of a study and of its runs again, from stored rows; runs no model.

    Args:
        folder: of the study; an unfinished one is reported as far as it went.

    Returns:
        The answers as sentences.

    Raises:
        RobustnessError: the folder is no study, another process works in it, or a file of it cannot be read.
    """
    from robustness.studies.run import report_again  # as above

    return report_again(Path(expand(folder)), _reporting())


def design_study(study: PathLike, settings: StudySettings) -> Design:
    """Returns a study with its names resolved; loads no weights and no rows.

    Raises:
        RobustnessError: bad input, or a base that is not there.
    """
    if not isinstance(study, PathLike):
        raise UsageError(f"study: study: expected a name or a path; got {shorten(repr(study))}")
    from robustness.studies.design import resolve

    return resolve(find_study(expand(study)), find_data(settings.data))


def forecast_study(
    study: PathLike, out: PathLike, settings: StudySettings | None = None, teraflops: float | None = None
) -> Forecast:
    """Returns what the missing jobs of a study cost, and what the whole can show; loads no weights.

    Args:
        study: as in `study`.
        out: its folder, which need not be there.
        settings: as in `study`.
        teraflops: the rate of this machine, in 10^12 operations a second; None: timed for two seconds.

    Raises:
        RobustnessError: what `study` would be refused for before its first training.
    """
    from robustness.runs.planning.cost import given_rate  # all three import torch
    from robustness.studies.checking import check_design
    from robustness.studies.foresight import forecast

    chosen = settings or StudySettings()
    design = design_study(study, chosen)
    check_design(design)
    rate = None if teraflops is None else given_rate(teraflops)
    return forecast(design, Path(expand(out)), chosen.device, rate)


def _reporting() -> Reporting:
    return Reporting(run=_report_run, study=_report_study)


def _report_run(folder: Path) -> None:
    from robustness.reports.report import write_report  # brings pandas and matplotlib

    write_report(folder)


def _report_study(folder: Path) -> tuple[str, ...]:
    from robustness.reports.studies.study import write_study  # brings pandas

    return write_study(folder)


def _ignore(_line: str) -> None:
    pass
