"""The store: one SQLite row per outcome, written as it happens."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Literal, final

import pandas as pd

from robustness.databases import is_locked, use_write_ahead_log
from robustness.engine.outcome import Outcome
from robustness.errors import RunError
from robustness.runs.cells import Cell
from robustness.runs.storage.disk import STORE, explain_damage, explain_lock
from robustness.runs.storage.record import FILE_NAME as RECORD
from robustness.runs.storage.releases import explain_other_release, find_other_release
from robustness.stats.plausibility import OriginalsTally
from robustness.tasks.grading import Grade
from robustness.testsets.example import Texts
from robustness.versions import OWN

SCHEMA_VERSION = 5
FILE_NAME = STORE
LOCK_SECONDS = 60.0
"""How long a write waits for another program, such as a backup, to release the file."""
READ_SECONDS = 5.0
"""The same for readers at a terminal."""

_OUTCOME_COLUMNS = tuple(field.name for field in fields(Outcome))
_CELL_COLUMNS = ("checkpoint", "testset", "attack")
_COLUMNS = (*_CELL_COLUMNS, *_OUTCOME_COLUMNS)
_IN_CELL = "checkpoint=? AND testset=? AND attack=?"
_REPLAY_COLUMNS = ("source", "testset", "attack", "target", "example_id", "correct", "response")
_REPLAY_KEY = _REPLAY_COLUMNS[:-2]

NOT_BEGUN = "the run has no outcome yet; if it was interrupted, the same command continues it"
"""What a folder is told whose run ended between its gate and its first outcome."""
CHUNK = 50_000
"""Rows held as Python objects at a time."""


@final
class Store:
    """The outcomes of one run folder; every commit is durable, every row is written once."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None, timeout=LOCK_SECONDS)
        if self._connection.execute("SELECT COUNT(*) FROM sqlite_schema WHERE name='outcomes'").fetchone()[0]:
            _refuse_other_schema(self._connection, folder)
        use_write_ahead_log(self._connection)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._create()

    def _create(self) -> None:
        """Creates what is missing, tables and version at once: a process that dies here leaves neither or both."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS outcomes ({', '.join(_COLUMNS)}, "
            f"PRIMARY KEY ({', '.join(_CELL_COLUMNS)}, example_id)) WITHOUT ROWID"
        )
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS replays ({', '.join(_REPLAY_COLUMNS)}, "
            f"PRIMARY KEY ({', '.join(_REPLAY_KEY)})) WITHOUT ROWID"
        )
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS truncated (checkpoint, text, PRIMARY KEY (checkpoint, text))"
        )
        self._connection.execute("COMMIT")

    def finished(self, cell: Cell) -> set[str]:
        """Returns the ids of the examples whose outcome is stored; an errored one is not finished."""
        query = f"SELECT example_id FROM outcomes WHERE {_IN_CELL} AND status != 'errored'"
        return {row[0] for row in self._connection.execute(query, (cell.checkpoint, cell.testset, cell.attack))}

    def right(self, cell: Cell) -> frozenset[str]:
        """Returns the ids of a cell's examples with right answers."""
        query = f"SELECT example_id FROM outcomes WHERE {_IN_CELL} AND correct = 1 AND status != 'errored'"
        rows = self._connection.execute(query, (cell.checkpoint, cell.testset, cell.attack))
        return frozenset(example_id for (example_id,) in rows)

    def forget_errored(self, cell: Cell) -> None:
        """Removes errored outcomes of a cell before a new try."""
        query = f"DELETE FROM outcomes WHERE {_IN_CELL} AND status = 'errored'"
        self._connection.execute(query, (cell.checkpoint, cell.testset, cell.attack))

    def add(self, cell: Cell, outcomes: Iterable[Outcome]) -> None:
        """Writes outcomes in one transaction."""
        rows = [(cell.checkpoint, cell.testset, cell.attack, *_values(outcome)) for outcome in outcomes]
        self._insert("outcomes", _COLUMNS, rows)

    def note_truncated(self, checkpoint: str, digests: Iterable[str]) -> None:
        """Stores the digests of texts too long for a checkpoint."""
        rows = [(checkpoint, digest) for digest in sorted(set(digests))]
        self._insert("truncated", ("checkpoint", "text"), rows, or_ignore=True)

    def count_truncated(self) -> dict[str, int]:
        """Returns the number of texts that were too long, by checkpoint."""
        return dict(self._connection.execute("SELECT checkpoint, COUNT(*) FROM truncated GROUP BY checkpoint"))

    def count_successes(self) -> dict[tuple[str, str, str], tuple[int, int]]:
        """Returns the numbers of successful and of judged attacks of each cell."""
        query = (
            "SELECT checkpoint, testset, attack, SUM(status='succeeded'), COUNT(*) FROM outcomes "
            "WHERE status IN ('succeeded', 'failed') GROUP BY checkpoint, testset, attack"
        )
        rows = self._connection.execute(query)
        return {(checkpoint, testset, attack): (broken, n) for checkpoint, testset, attack, broken, n in rows}

    def unreplayed_successes(self, cell: Cell, target: str) -> list[tuple[str, Texts]]:
        """Returns example id and adversarial text of each success in a cell that `target` has not answered yet."""
        query = (
            "SELECT example_id, adversarial_text FROM outcomes AS o "
            "WHERE checkpoint=? AND testset=? AND attack=? AND status='succeeded' AND adversarial_text IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM replays AS r WHERE r.source=o.checkpoint AND r.testset=o.testset "
            "AND r.attack=o.attack AND r.target=? AND r.example_id=o.example_id)"
        )
        rows = self._connection.execute(query, (cell.checkpoint, cell.testset, cell.attack, target))
        return [(example_id, tuple(json.loads(texts))) for example_id, texts in rows]

    def replayed(self, cell: Cell, target: str) -> set[str]:
        """Returns the ids of a cell's examples whose texts `target` has answered."""
        query = "SELECT example_id FROM replays WHERE source=? AND testset=? AND attack=? AND target=?"
        rows = self._connection.execute(query, (cell.checkpoint, cell.testset, cell.attack, target))
        return {example_id for (example_id,) in rows}

    def add_replays(self, cell: Cell, target: str, answers: Iterable[tuple[str, Grade]]) -> None:
        """Writes the answers of `target` to a cell's adversarial texts, by example id, in one transaction."""
        where = cell.checkpoint, cell.testset, cell.attack, target
        rows = [(*where, example_id, grade.correct, grade.response) for example_id, grade in answers]
        self._insert("replays", _REPLAY_COLUMNS, rows)

    def count_wavering(self, least: float) -> dict[str, int]:
        """Returns, by checkpoint, the number of unchanged texts with another response in the judgement.

        Args:
            least: least change of quality for a text to count.
        """
        query = (
            "SELECT checkpoint, COUNT(*) FROM outcomes WHERE attack != 'none' AND adversarial_text = original_text "
            "AND response != clean_response AND ABS(quality - clean_quality) > ? GROUP BY checkpoint"
        )
        return dict(self._connection.execute(query, (least,)))

    def tally_originals(self, testsets: Collection[str]) -> dict[str, list[OriginalsTally]]:
        """Returns, by test set, one tally per checkpoint of benign originals without their own gold.

        Args:
            testsets: test sets to examine.
        """
        query = (
            "SELECT testset, SUM(right), MAX(n), SUM(n) FROM "
            "(SELECT checkpoint, testset, SUM(clean_correct) AS right, COUNT(*) AS n FROM outcomes "
            "WHERE attack = 'none' AND clean_correct IS NOT NULL AND original_gold IS NULL "
            "AND status != 'errored' GROUP BY checkpoint, testset, gold) GROUP BY checkpoint, testset"
        )
        found: dict[str, list[OriginalsTally]] = {}
        for testset, *counts in self._connection.execute(query):
            if testset in testsets:
                found.setdefault(testset, []).append(OriginalsTally(*counts))
        return found

    def count_vanished(self) -> dict[tuple[str, str], int]:
        """Returns, by checkpoint and attack, the number of failed attacks with a vanished gradient."""
        query = (
            "SELECT checkpoint, attack, COUNT(*) FROM outcomes WHERE status='failed' AND zero_gradients > 0 "
            "GROUP BY checkpoint, attack"
        )
        return {(checkpoint, attack): count for checkpoint, attack, count in self._connection.execute(query)}

    def paired_successes(self, first: str, second: str) -> dict[tuple[str, str], list[tuple[bool, bool]]]:
        """Returns, by checkpoint and test set, whether each of two attacks broke an example that both judged."""
        query = (
            "SELECT a.checkpoint, a.testset, a.status='succeeded', b.status='succeeded' FROM outcomes AS a "
            "JOIN outcomes AS b USING (checkpoint, testset, example_id) WHERE a.attack=? AND b.attack=? "
            "AND a.status IN ('succeeded', 'failed') AND b.status IN ('succeeded', 'failed')"
        )
        found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
        for checkpoint, testset, one, other in self._connection.execute(query, (first, second)):
            found.setdefault((checkpoint, testset), []).append((bool(one), bool(other)))
        return found

    def _insert(
        self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], *, or_ignore: bool = False
    ) -> None:
        """Writes all rows or, if the disk fails, none; `or_ignore` skips existing ones."""
        verb = "INSERT OR IGNORE" if or_ignore else "INSERT"
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany(f"{verb} INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:  # SQLite itself rolls back after some errors
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def read_outcomes(folder: Path) -> pd.DataFrame:
    """Returns all stored outcomes, one row each, ordered by cell and example; raises as `read_rows`."""
    return read_rows(folder, "outcomes")


def read_replays(folder: Path) -> pd.DataFrame:
    """Returns all replayed texts, one row each; raises as `read_rows`."""
    return read_rows(folder, "replays")


def read_rows(folder: Path, table: Literal["outcomes", "replays"]) -> pd.DataFrame:
    """Returns one table of the store.

    Raises:
        RunError: no store in the folder, a damaged file, or another schema version.
    """
    with open_store(folder) as connection:
        parts = list(pd.read_sql_query(f"SELECT * FROM {table}", connection, chunksize=CHUNK))
    frame = pd.concat(parts, ignore_index=True)
    mixed = {name: pd.Series(frame[name].tolist()) for name in frame if frame[name].dtype == object}
    return frame.assign(**mixed)  # a column that is empty in one chunk only


@contextmanager
def open_store(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens the store of a run for reading; raises as `read_rows`."""
    path = folder / FILE_NAME
    if not path.is_file() and not (folder / RECORD).is_file():
        raise RunError(f"{folder}: no {FILE_NAME}; expected a folder that `robustness run` wrote")
    if not path.is_file():
        raise RunError(f"{folder}: {NOT_BEGUN}")
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if _is_open(path) else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=READ_SECONDS)) as connection:
            if not connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
                raise RunError(f"{folder}: {NOT_BEGUN}")
            _refuse_other_schema(connection, folder)
            yield connection
    except (sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
        if is_locked(error) or is_locked(error.__cause__):  # pandas wraps errors of the sqlite3 module
            raise explain_lock(path) from None
        raise explain_damage(path, error) from None


def _is_open(path: Path) -> bool:
    """Whether a program has a store open, or was killed while it had.

    If none has, SQLite is told that the file is immutable, so that it creates no file beside the store.
    """
    return any(path.with_name(f"{path.name}-{log}").exists() for log in ("wal", "shm"))


def _values(outcome: Outcome) -> list[object]:
    values = []
    for name in _OUTCOME_COLUMNS:
        value = getattr(outcome, name)
        values.append(json.dumps(value) if isinstance(value, tuple) else value)
    return values


def _refuse_other_schema(connection: sqlite3.Connection, folder: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        writer = find_other_release(folder) or f"another state of {OWN}"  # as between two commits
        raise RunError(
            f"{folder / FILE_NAME}: schema version {version}, expected {SCHEMA_VERSION}: "
            f"{explain_other_release(folder, writer)}"
        )
