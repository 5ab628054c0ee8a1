"""What became of each job: a line a job, appended as it ends, so that a killed study loses no ended job."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, final

FILE_NAME = "journal.jsonl"


class State(StrEnum):
    """What became of a job."""

    DONE = "done"
    FAILED = "failed"
    """It gave no result; a training whose loss was not finite among them."""
    REFUSED = "refused"
    """There is nothing to do for it: no pair may be compared, or what it needs has no result."""
    MISSING = "missing"
    """It has not ended yet."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    state: State
    seconds: float
    reason: str = ""
    """Empty for a job that is done."""
    is_final: bool = True
    """Whether the same job would end in the same way; otherwise the next call tries again."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What the journal holds of a job."""

    place: int
    """Of its last line."""
    part: tuple[str, str]
    """Its kind and name."""
    ended: Ended


@final
class Journal:
    """The ended jobs of a study's folder.

    A job of the same kind and name with another id takes the place of the one before: what that one made is replaced.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._lines: dict[str, _Line] = {}
        self._latest: dict[tuple[str, str], str] = {}
        self._count = 0
        for line in self._read():
            ended = Ended(State(line["state"]), line["seconds"], line["reason"], line["is_final"])
            self._keep(line["id"], line["kind"], line["name"], ended)

    def _read(self) -> list[dict[str, Any]]:
        """The whole lines; the last one of a killed process may be torn."""
        if not self._path.is_file():
            return []
        content = self._path.read_bytes()
        whole, newline, torn = content.rpartition(b"\n")
        if torn:
            with self._path.open("r+b") as stream:
                stream.truncate(len(whole) + len(newline))
        return [json.loads(line) for line in whole.splitlines()]

    def _keep(self, job_id: str, kind: str, name: str, ended: Ended) -> None:
        self._lines[job_id] = _Line(self._count, (kind, name), ended)
        self._count += 1
        self._latest[kind, name] = job_id

    def find(self, job_id: str) -> Ended | None:
        """Returns how a job ended; None if it has not, or if another has taken its place since."""
        line = self._lines.get(job_id)
        return None if line is None or self._latest[line.part] != job_id else line.ended

    def follows(self, job_id: str, needs: Iterable[str]) -> bool:
        """Whether a job ended after the last end of all that it needs."""
        places = [self._lines[need].place if need in self._lines else self._count for need in needs]
        return job_id in self._lines and self._lines[job_id].place > max(places, default=-1)

    def begin(self, job_id: str, kind: str, name: str) -> None:
        """Notes, durably, that a job is about to take the place of another; else nothing."""
        if self._latest.get((kind, name), job_id) != job_id:
            self.add(job_id, kind, name, Ended(State.MISSING, 0.0, is_final=False))

    def add(self, job_id: str, kind: str, name: str, ended: Ended) -> None:
        """Appends a line, durably."""
        content = {
            "id": job_id,
            "kind": kind,
            "name": name,
            "state": ended.state,
            "seconds": round(ended.seconds, 3),
            "reason": ended.reason,
            "is_final": ended.is_final,
        }
        with self._path.open("ab") as stream:
            stream.write(json.dumps(content).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._keep(job_id, kind, name, ended)
