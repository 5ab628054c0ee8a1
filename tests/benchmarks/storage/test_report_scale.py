"""All tables and the page from a million outcome rows."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustness.runs.cells import NO_ATTACK, Cell
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    TestsetRecord,
    write_record,
)
from robustness.runs.storage.store import Store

LABELS = ("negative", "positive")

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Shape:
    """A run: each seed has one full checkpoint and one of every method, each meets every set and attack."""

    methods: int
    seeds: int
    testsets: int
    attacks: int
    examples: int
    grouped: int
    """Test sets whose rows share a source by ones to fives, as altered forms of one question do."""

    @property
    def rows(self) -> int:
        return self.seeds * (1 + self.methods) * self.testsets * (1 + self.attacks) * self.examples


SHAPES = {
    # A study of methods: sets as small as AdvGLUE's and adversarial SQuAD's share; comparisons are what costs.
    "12 methods, 5 seeds, 11 sets of 156": Shape(12, 5, 11, 8, 156, grouped=2),
    # One method, long sets: rows are what costs.
    "1 method, 5 seeds, 5 sets of 2,000": Shape(1, 5, 5, 9, 2_000, grouped=2),
}
SCRIPT = """
import json, sys, time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from robustness.reports.report import write_report

started = time.perf_counter()
report = write_report(Path(sys.argv[1]))
seconds = time.perf_counter() - started
used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
rows = {str(name): len(table) for name, table in report.tables.items()}
print(json.dumps({"seconds": round(seconds, 1),
                  "processor_seconds": round(sum(each.ru_utime + each.ru_stime for each in used), 1),
                  "peak_megabytes": round(sum(each.ru_maxrss for each in used) / 1024), "rows": rows}))
"""
WORDS = ("film", "story", "plot", "actor", "scene", "music", "fine", "dull", "warm", "cold", "the", "a", "is", "of")


def make_record(shape: Shape) -> RunRecord:
    arms = ["full", *(f"method-{i}" for i in range(shape.methods))]
    return RunRecord(
        suite="scale",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=tuple(
            PairRecord(
                name=f"{arm}-{seed}",
                task="sst2",
                base="base",
                reference=f"full-{seed}",
                candidate=f"sst2-{arm}-{seed}",
                seed=seed,
            )
            for arm in arms[1:]
            for seed in range(shape.seeds)
        ),
        checkpoints=tuple(
            CheckpointRecord(
                name=f"full-{seed}" if arm == "full" else f"sst2-{arm}-{seed}",
                adaptation=arm,
                task="sst2",
                base="base",
                train_seed=seed,
                weights_digest="",
                clean_accuracy=0.9,
                majority_share=0.5,
                n_clean=872,
                merge_difference=None,
            )
            for seed in range(shape.seeds)
            for arm in arms
        ),
        testsets=tuple(
            TestsetRecord(
                name=f"set-{i}",
                task="sst2",
                kind="adversarial" if i else "clean",
                provenance="official",
                n=shape.examples,
                n_used=shape.examples,
                digest="",
                scores_f1=False,
                labels=LABELS,
            )
            for i in range(shape.testsets)
        ),
        attacks=tuple(
            AttackRecord(name=f"attack-{i}", family=("character", "word", "sentence")[i % 3], digest="")
            for i in range(shape.attacks)
        ),
        warnings=(),
        started="2026-01-01T00:00:00+00:00",
        machine="",
        versions={},
    )


@dataclass(frozen=True)
class Examples:
    """What all checkpoints meet on one test set."""

    texts: list[str]
    groups: NDArray[np.int64]
    hardness: NDArray[np.float64]
    """By attack and example: arms mostly break on the same ones."""


def make_examples(shape: Shape, number: int, rng: np.random.Generator) -> Examples:
    lengths = rng.integers(6, 40, shape.examples)
    sizes = rng.integers(1, 6, shape.examples) if number < shape.grouped else np.ones(shape.examples, dtype=int)
    return Examples(
        texts=[json.dumps([" ".join(rng.choice(WORDS, n)) + f" {i}"]) for i, n in enumerate(lengths)],
        groups=np.repeat(np.arange(shape.examples), sizes)[: shape.examples],
        hardness=rng.normal(size=(1 + shape.attacks, shape.examples)) + rng.normal(size=shape.examples),
    )


def fill(folder: Path, record: RunRecord, shape: Shape) -> None:
    """Writes the rows straight into the store's tables: a million Outcome objects would take minutes."""
    Store(folder).close()
    rng = np.random.default_rng(0)
    sets = {testset.name: make_examples(shape, i, rng) for i, testset in enumerate(record.testsets)}
    partners: dict[str, list[str]] = {}
    for pair in record.pairs:
        partners.setdefault(pair.reference, []).append(pair.candidate)
        partners.setdefault(pair.candidate, []).append(pair.reference)
    attacks = (NO_ATTACK, *(attack.name for attack in record.attacks))
    with sqlite3.connect(folder / "run.sqlite") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(outcomes)")]
        insert = f"INSERT INTO outcomes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for checkpoint in record.checkpoints:
            for testset in record.testsets:
                for number, attack in enumerate(attacks):
                    cell = Cell(checkpoint.name, testset.name, attack)
                    rows = list(rows_of(cell, number, sets[testset.name], rng, checkpoint.adaptation))
                    connection.executemany(insert, [[row.get(column) for column in columns] for row in rows])
                    broken = [row["example_id"] for row in rows if row["status"] == "succeeded"]
                    for partner in partners[checkpoint.name] if attack != NO_ATTACK else ():
                        answers = rng.integers(2, size=len(broken)).tolist()
                        connection.executemany(
                            "INSERT INTO replays VALUES (?, ?, ?, ?, ?, ?, ?)",
                            [
                                (checkpoint.name, testset.name, attack, partner, name, correct, LABELS[correct])
                                for name, correct in zip(broken, answers, strict=True)
                            ],
                        )
    connection.close()


def rows_of(
    cell: Cell, number: int, examples: Examples, rng: np.random.Generator, adaptation: str
) -> Iterator[dict[str, Any]]:
    n = len(examples.texts)
    broken = examples.hardness[number] + rng.normal(size=n) > (0.0 if adaptation == "full" else -0.1)
    skipped = rng.random(n) < 0.1
    queries, scores = rng.integers(3, 400, n).tolist(), rng.random((n, 4)).tolist()
    for i, text in enumerate(examples.texts):
        label = i % 2
        clean = 1 - label if skipped[i] else label
        yield {
            "checkpoint": cell.checkpoint,
            "testset": cell.testset,
            "attack": cell.attack,
            "example_id": f"{cell.testset}:{i}",
            "group_id": f"{cell.testset}:{examples.groups[i]}",
            "gold": LABELS[label],
            "status": "skipped" if skipped[i] else "succeeded" if broken[i] else "failed",
            "clean_correct": clean == label,
            "correct": clean == label and not broken[i],
            "clean_quality": scores[i][0],
            "quality": scores[i][1],
            "clean_response": LABELS[clean],
            "response": LABELS[1 - label if broken[i] else clean],
            "queries": 0 if cell.attack == NO_ATTACK else queries[i],
            "forwards": queries[i],
            "modified_words": 2,
            "modified_share": scores[i][2],
            "similarity": 0.9,
            "seconds": scores[i][3],
            "original_text": text,
            "adversarial_text": text.replace(" ", f" {cell.attack} ", 1),
        }


@pytest.mark.parametrize("name", SHAPES)
def test_a_million_rows_become_tables_and_a_page_in_a_minute_and_two_gigabytes(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None], name: str
) -> None:
    shape = SHAPES[name]
    record = make_record(shape)
    write_record(tmp_path, record)
    fill(tmp_path, record, shape)

    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)

    figures = {"shape": name} | json.loads(done.stdout.splitlines()[-1])
    figures["page_megabytes"] = round((tmp_path / "report.html").stat().st_size / 1e6, 1)
    save_result(f"report_scale_{shape.methods}_methods", figures)
    assert figures["rows"]["examples"] == shape.rows >= 1_000_000
    # One process: its processor time is what it takes on a machine of its own, whatever runs beside it here.
    assert figures["processor_seconds"] < (60 if shape.methods == 1 else 120) and figures["peak_megabytes"] < 2048
