"""What became of each job: a line a job, appended as it ends, so that a killed study loses no ended job."""

from __future__ import annotations

import json
import os
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


@final
class Journal:
    """The ended jobs of a study's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._ended: dict[str, Ended] = {}
        for line in self._read():
            self._ended[line["id"]] = Ended(State(line["state"]), line["seconds"], line["reason"], line["is_final"])

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

    def find(self, job_id: str) -> Ended | None:
        """Returns how a job ended, if it has."""
        return self._ended.get(job_id)

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
        self._ended[job_id] = ended
