"""Carries outcomes from one run folder into another where they would come out the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from robustness.runs.cells import NO_ATTACK
from robustness.runs.storage.disk import STORE
from robustness.runs.storage.measurements import TABLE as MEASUREMENTS
from robustness.runs.storage.measurements import MeasurementStore
from robustness.runs.storage.record import FILE_NAME, RunRecord, read_record
from robustness.runs.storage.store import SCHEMA_VERSION, Store
from robustness.versions import compared_versions

PER_CELL = (
    *("pairs: ", "tasks: ", "checkpoints: ", "attacks: ", "probes: "),
    *("data: ", "testsets: ", "rows: ", "selecting rows: ", "cells: "),
)
"""Topics of a run's fingerprint that concern one name; all others concern every outcome."""
LIST = "SELECT value FROM json_each(?)"
OUTCOMES = (
    "INSERT OR IGNORE INTO outcomes SELECT * FROM source.outcomes WHERE status != 'errored' "
    f"AND checkpoint IN ({LIST}) AND testset IN ({LIST}) AND attack IN ({LIST})"
)
TRUNCATED = f"INSERT OR IGNORE INTO truncated SELECT * FROM source.truncated WHERE checkpoint IN ({LIST})"
READINGS = (
    f"INSERT OR IGNORE INTO {MEASUREMENTS} SELECT * FROM source.{MEASUREMENTS} "
    f"WHERE checkpoint IN ({LIST}) AND (testset = '' OR testset IN ({LIST})) AND probe IN ({LIST})"
)


def carry_outcomes(source: Path, target: Path) -> int:
    """Copies outcomes of cells that both runs have, with equal weights, rows and attacks; returns their number.

    Nothing is copied where the runs differ in seed, limit, precision, device or libraries, or where the rows that are
    attacked depend on both arms. Readings of probes are copied for checkpoints with the same partners.
    """
    if not all(file.is_file() for file in (source / FILE_NAME, source / STORE, target / FILE_NAME)):
        return 0
    old, new = read_record(source), read_record(target)
    if not _are_alike(old, new):
        return 0
    arms = {arm.name for arm in new.checkpoints}  # the fingerprint has arms of refused pairs too
    checkpoints = [name for name in _shared(old, new, "checkpoints") if name in arms]
    testsets = [name for name in _shared(old, new, "data") if name in set(_shared(old, new, "testsets"))]
    attacks = [NO_ATTACK, *_shared(old, new, "attacks")]
    partnered = [name for name in checkpoints if _partners(old, name) == _partners(new, name)]
    Store(target).close()
    MeasurementStore(target).close()
    with closing(sqlite3.connect(target / STORE, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS source", (f"{source / STORE}",))
        if connection.execute("PRAGMA source.user_version").fetchone()[0] != SCHEMA_VERSION:
            return 0
        connection.execute("BEGIN IMMEDIATE")
        copied = connection.execute(OUTCOMES, [_json(each) for each in (checkpoints, testsets, attacks)]).rowcount
        connection.execute(TRUNCATED, [_json(checkpoints)])
        if connection.execute("SELECT 1 FROM source.sqlite_master WHERE name=?", (MEASUREMENTS,)).fetchone():
            probes = list(_shared(old, new, "probes"))
            connection.execute(READINGS, [_json(each) for each in (partnered, testsets, probes)])
        connection.execute("COMMIT")
    return copied


def _are_alike(old: RunRecord, new: RunRecord) -> bool:
    if old.attacked is not None or new.attacked is not None:
        return False
    if compared_versions(old.versions) != compared_versions(new.versions):
        return False
    kept = [
        {topic: each for topic, each in record.fingerprint.items() if not topic.startswith(PER_CELL)}
        for record in (old, new)
    ]
    return kept[0] == kept[1]


def _shared(old: RunRecord, new: RunRecord, kind: str) -> Iterator[str]:
    """Names with equal digests in both."""
    prefix = f"{kind}: "
    for topic, digest in new.fingerprint.items():
        name = topic.removeprefix(prefix)
        rows = f"rows: {name}"
        is_same = old.fingerprint.get(topic) == digest
        if topic.startswith(prefix) and is_same and old.fingerprint.get(rows) == new.fingerprint.get(rows):
            yield name


def _partners(record: RunRecord, checkpoint: str) -> set[str]:
    pairs = [(pair.reference, pair.candidate) for pair in record.pairs]
    return {other for pair in pairs if checkpoint in pair for other in pair if other != checkpoint}


def _json(names: Sequence[str]) -> str:
    return json.dumps(list(names))
