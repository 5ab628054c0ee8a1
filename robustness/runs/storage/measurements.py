"""The store's second half: readings of probes, one SQLite row for each reading."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, final

import pandas as pd

from robustness.runs.cells import ProbeCell
from robustness.runs.storage.store import FILE_NAME, LOCK_SECONDS, open_store

if TYPE_CHECKING:  # a report reads measurements without any probe
    from robustness.sensitivity.measurement import Space
    from robustness.sensitivity.probe import Reading

CELL_COLUMNS = ("checkpoint", "testset", "probe")
COLUMNS = (
    *CELL_COLUMNS,
    "number",
    "space",
    "quantity",
    "unit",
    "direction",
    "aggregate",
    "scale_free",
    "example_id",
    "group_id",
    "layer",
    "module",
    "target",
    "kind",
    "norm",
    "scope",
    "radius",
    "sigma",
    "alpha",
    "status",
    "value",
    "low",
    "high",
    "forwards",
    "backwards",
    "seconds",
    "diagnostics",
    "reason",
)
_IN_CELL = "checkpoint=? AND testset=? AND probe=?"
TABLE = "measurements"


@final
class MeasurementStore:
    """The readings of one run folder; a probe's cell is stored whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=LOCK_SECONDS)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} ({', '.join(COLUMNS)}, "
            f"PRIMARY KEY ({', '.join(CELL_COLUMNS)}, number)) WITHOUT ROWID"
        )

    def is_finished(self, cell: ProbeCell) -> bool:
        """Whether a cell is stored and none of its rows is errored."""
        query = f"SELECT COUNT(*), SUM(status = 'errored') FROM {TABLE} WHERE {_IN_CELL}"
        rows, errored = self._connection.execute(query, _key(cell)).fetchone()
        return bool(rows) and not errored

    def replace(self, cell: ProbeCell, space: Space, readings: Iterable[Reading], seconds: float) -> None:
        """Writes all readings of a cell in one transaction, replacing an earlier try."""
        rows = [_row(cell, number, space, reading, seconds) for number, reading in enumerate(readings)]
        self._connection.execute("BEGIN")
        self._connection.execute(f"DELETE FROM {TABLE} WHERE {_IN_CELL}", _key(cell))
        self._connection.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def read_measurements(folder: Path) -> pd.DataFrame:
    """Returns all readings, one row each in order of creation; empty for a run without probes.

    Raises:
        RunError: as `read_rows`.
    """
    with open_store(folder) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name=?", (TABLE,)).fetchone():
            return pd.DataFrame(columns=list(COLUMNS))
        return pd.read_sql_query(f"SELECT * FROM {TABLE}", connection)


def _key(cell: ProbeCell) -> tuple[str, str, str]:
    return cell.checkpoint, cell.testset, cell.probe


def _row(cell: ProbeCell, number: int, space: Space, reading: Reading, seconds: float) -> tuple[object, ...]:
    measured, example = reading.measurement, reading.example
    return (
        *_key(cell),
        number,
        space,
        measured.quantity.name,
        measured.quantity.unit,
        measured.quantity.direction,
        measured.quantity.aggregate,
        int(measured.quantity.scale_free),
        example and example.id,
        example and example.group,
        reading.layer,
        reading.module,
        measured.target,
        measured.kind,
        measured.norm,
        measured.scope,
        measured.radius,
        measured.sigma,
        measured.alpha,
        measured.status,
        measured.value,
        reading.low,
        reading.high,
        measured.forwards,
        measured.backwards,
        seconds,
        json.dumps(dict(measured.diagnostics), sort_keys=True),
        measured.reason.encode("utf-8", "backslashreplace").decode(),
    )
