"""The query cache: a victim's earlier answers on disk, shared by attacks, runs and processes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.databases import use_write_ahead_log
from robustness.engine.respondents import NotingRespondent
from robustness.errors import UsageError
from robustness.tasks.grading import Grader, LabelGrader, Rows
from robustness.testsets.example import Example

FILE_NAME = "queries.sqlite"
SCHEMA_VERSION = 1
LOCK_SECONDS = 60.0
"""How long to wait for another process that holds the file."""
RECHECK_EVERY = 1_000
"""One text in this many is scored again and compared with the cache."""
TOLERANCE = 0.01
"""Allowed difference of a recomputed number, see `Grader.differ`. Other padding changes the last digits; in bfloat16
the third digit."""
LABELS = LabelGrader(())
"""Reads rows of logits; their label names do not matter here."""
LOOKUP = 500
"""Texts per SQL query."""

_COUNT_RECHECKS = (
    "INSERT INTO rechecks VALUES (?, ?, ?) ON CONFLICT (victim) DO UPDATE SET "
    "rechecked = rechecked + excluded.rechecked, disagreed = disagreed + excluded.disagreed"
)


@final
class QueryCache:
    """One victim's rows by text, and for question answering also by gold answers, because those rows hold a loss.

    Two processes may share the file (write-ahead log). The choice of recomputed texts depends only on the texts.

    Args:
        folder: holds the file, which is created if missing.
        victim: digest of everything that rows depend on besides the example.
        grader: reads the rows.

    Raises:
        UsageError: at any call: the folder cannot be written, or the file is damaged, locked or no query cache.
    """

    def __init__(self, folder: Path, victim: str, grader: Grader = LABELS) -> None:
        self._path = folder / FILE_NAME
        self._grader = grader
        self._victim = victim
        self.hits = 0
        self.rechecked = 0
        self.disagreed = 0
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_SECONDS)
            self._prepare()

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")  # if two processes create the file, one of them finds it created
        with connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
            if version != SCHEMA_VERSION and (version or tables):
                raise sqlite3.DatabaseError("not a query cache of this release")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS scores (victim TEXT, text BLOB, row BLOB, PRIMARY KEY (victim, text)) "
                "WITHOUT ROWID"
            )
            connection.execute(
                "CREATE TABLE IF NOT EXISTS rechecks (victim TEXT PRIMARY KEY, rechecked INTEGER, disagreed INTEGER)"
            )
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the last answers, never damage others

    def find(self, asked: Sequence[Example], *, losses: bool = False) -> list[NDArray[np.float32] | None]:
        """Returns the known row of each example; None for an unknown one and one to be recomputed.

        Args:
            asked: examples.
            losses: whether to look for loss rows, which are stored separately.
        """
        keys = [_key_of(example, losses=losses) for example in asked]
        found = self._read([key for key in dict.fromkeys(keys) if not _is_rechecked(key)])
        self.hits += len(found)
        return [found.get(key) for key in keys]

    def add(self, asked: Sequence[Example], rows: Rows, *, losses: bool = False) -> None:
        """Stores rows, shape (len(asked), numbers), or loss rows; compares recomputed rows with the stored ones."""
        finite = [(each, row) for each, row in zip(asked, rows, strict=True) if np.isfinite(row).all()]
        fresh = {_key_of(example, losses=losses): row for example, row in finite}
        again = self._read([key for key in fresh if _is_rechecked(key)])
        disagreed = sum(
            known.shape != fresh[key].shape or self._grader.differ(known, fresh[key], TOLERANCE)
            for key, known in again.items()
        )
        self.rechecked += len(again)
        self.disagreed += disagreed
        values = [(self._victim, key, row.astype("<f4").tobytes()) for key, row in fresh.items()]
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?)", values)
            if again:  # counted in the file, so that a killed run keeps the warning
                self._connection.execute(_COUNT_RECHECKS, (self._victim, len(again), disagreed))
            self._connection.execute("COMMIT")

    def in_front_of(self, victim: NotingRespondent) -> CachedVictim:
        """Returns the victim, wrapped so that known rows come from the cache."""
        return CachedVictim(self, victim)

    def warnings(self) -> list[str]:
        """A warning about cached scores that proved wrong in this run or an earlier one: one sentence, or none."""
        query = "SELECT rechecked, disagreed FROM rechecks WHERE victim=?"
        with self._explained():
            rechecked, disagreed = self._connection.execute(query, (self._victim,)).fetchone() or (0, 0)
        if not disagreed:
            return []
        return [
            f"{self._path}: {disagreed} of {rechecked} cached scores that were recomputed differ; "
            "the victim is not deterministic or the file is wrong: delete it and run again without --cache"
        ]

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found = {}
        with self._explained():
            for start in range(0, len(keys), LOOKUP):
                part = keys[start : start + LOOKUP]
                query = f"SELECT text, row FROM scores WHERE victim=? AND text IN ({', '.join('?' * len(part))})"
                for key, row in self._connection.execute(query, (self._victim, *part)):
                    found[key] = np.frombuffer(row, dtype="<f4")
        return found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"--cache {self._path.parent}: cannot be written: {error}; give another folder"
            ) from None
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"--cache {self._path}: cannot be used: {error}; another process may hold it for longer than "
                f"{LOCK_SECONDS:g} seconds, or the disk may be full: run without --cache or give another folder"
            ) from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UsageError(
                f"--cache {self._path}: no readable query cache: {error}; delete the file or give another folder"
            ) from None


@final
class CachedVictim:
    """A victim that is asked only for unknown rows."""

    def __init__(self, cache: QueryCache, victim: NotingRespondent) -> None:
        self.truncated = victim.truncated
        self.grader = victim.grader
        self._cache = cache
        self._victim = victim

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns what the victim gives for each example, shape (len(asked), numbers)."""
        found = self._cache.find(asked)
        unknown = {_key_of(example): example for example, row in zip(asked, found, strict=True) if row is None}
        rows = self._victim.rows(list(unknown.values()))
        self._cache.add(list(unknown.values()), rows)
        fresh = dict(zip(unknown, rows, strict=True))
        given = (fresh[_key_of(e)] if row is None else row for e, row in zip(asked, found, strict=True))
        return np.stack(list(given)) if asked else rows


def _key_of(example: Example, *, losses: bool = False) -> bytes:
    """The key: segments; for a question also its gold answers, and whether only its loss is stored."""
    golds = [answer.text for answer in example.answers]
    content: object = [example.texts, golds] if golds else example.texts
    content = {"losses": content} if losses else content
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).digest()


def _is_rechecked(key: bytes) -> bool:
    return int.from_bytes(key[:8]) % RECHECK_EVERY == 0
