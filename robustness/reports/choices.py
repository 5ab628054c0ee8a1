"""How a report is written, as the caller chooses."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from robustness.definitions.expectations import expectation
from robustness.errors import UsageError
from robustness.reports.tables.export import Format
from robustness.runs.storage.record import StatisticsRecord, read_record


def choose_format(form: str) -> Format:
    """Returns the format of that name; raises UsageError where there is none."""
    if form not in list(Format):
        raise UsageError(f"--format {form}: expected one of {', '.join(Format)}")
    return Format(form)


def choose_statistics(folder: Path, given: dict[str, object]) -> StatisticsRecord | None:
    """Returns how a run's arms are compared with some of it given, None with nothing given.

    Raises:
        UsageError: a value out of range.
        RunError: the folder is not a run.
    """
    if not given:
        return None
    margin = given.get("margin", 0.02)
    if not isinstance(margin, float) or not 0 < margin < 1:
        raise UsageError(f"--margin {margin}: expected a fraction between 0 and 1, such as 0.02 for two points")
    try:
        return StatisticsRecord.model_validate(read_record(folder).statistics.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]} {first['input']}: {expectation(first)}") from None
