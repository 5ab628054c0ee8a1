"""What a golden file holds, read from and written as JSON with one outcome a line."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy", "scipy", "nltk", "rapidfuzz")
DIGITS = 16
"""Hexadecimal digits of a digest."""

Key = tuple[str, str, str, str, str]
"""Run, checkpoint, test set, attack, example."""


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one example."""

    run: str
    checkpoint: str
    testset: str
    attack: str
    example: str
    status: str
    text: tuple[str, ...] | None
    """The segments of the text that was judged, or a digest of each."""
    queries: int
    forwards: int

    @property
    def key(self) -> Key:
        """What the record is of."""
        return self.run, self.checkpoint, self.testset, self.attack, self.example


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recipe that a run has no outcomes of."""

    run: str
    attack: str
    reason: str


@dataclass(frozen=True, slots=True)
class Golden:
    """One file."""

    environment: dict[str, str]
    """Versions of libraries and the kind of processor."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Digests of what outcomes depend on besides the engine, by `kind: name`."""
    left_out: tuple[LeftOut, ...] = ()
    records: tuple[Record, ...] = ()


def digest_segment(text: str) -> str:
    """Returns what stands for a text that may not be copied."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def describe_environment() -> dict[str, str]:
    """Returns what numbers may depend on in their last digits."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found["processor"] = torch.backends.cpu.get_cpu_capability()
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_golden(path: Path, golden: Golden) -> None:
    """Writes one file; the same content gives the same bytes."""
    parts = [
        f'"environment": {json.dumps(golden.environment, indent=1, sort_keys=True)}',
        f'"inputs": {json.dumps(golden.inputs, indent=1, sort_keys=True)}',
        f'"left_out": {_lines(golden.left_out)}',
        f'"records": {_lines(golden.records)}',
    ]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _lines(rows: Iterable[Record | LeftOut]) -> str:
    return "[\n" + ",\n".join(json.dumps(asdict(row)) for row in rows) + "\n]"


def read_golden(path: Path) -> Golden:
    """Reads one file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Golden(
        content["environment"],
        content["inputs"],
        tuple(LeftOut(**row) for row in content["left_out"]),
        tuple(_record(row) for row in content["records"]),
    )


def _record(row: dict[str, object]) -> Record:
    text = row.pop("text")
    return Record(text=None if text is None else tuple(text), **row)  # type: ignore[arg-type]
