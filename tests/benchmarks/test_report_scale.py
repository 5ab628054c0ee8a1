"""All tables and the page from a million outcome rows."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.engine.evaluation import NO_ATTACK
from robustness.runs.plan import Cell
from robustness.runs.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    RunRecord,
    TestsetRecord,
    write_record,
)
from robustness.runs.store import Store

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

PAIRS, TESTSETS, ATTACKS, EXAMPLES = 5, 5, 9, 2_000
"""10 checkpoints x 5 test sets x 10 cells x 2,000 examples: 1,000,000 rows."""
SCRIPT = """
import json, sys, time
from pathlib import Path
from robustness.reports.report import write_report

started = time.perf_counter()
report = write_report(Path(sys.argv[1]))
seconds = time.perf_counter() - started
status = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
rows = {str(name): len(table) for name, table in report.tables.items()}
print(json.dumps({"seconds": round(seconds, 1), "processor_seconds": round(time.process_time(), 1),
                  "peak_megabytes": round(peak), "rows": rows}))
"""
WORDS = ("film", "story", "plot", "actor", "scene", "music", "fine", "dull", "warm", "cold", "the", "a", "is", "of")


def make_record() -> RunRecord:
    names = [(f"full-{i}", f"lora-{i}") for i in range(PAIRS)]
    return RunRecord(
        suite="scale",
        seed=0,
        limit=None,
        device="cpu",
        dtype="float32",
        fingerprint={},
        pairs=tuple(
            PairRecord(name=f"pair-{i}", task="sst2", base="base", full=full, peft=peft, seed=i)
            for i, (full, peft) in enumerate(names)
        ),
        checkpoints=tuple(
            CheckpointRecord(
                name=name,
                adaptation=adaptation,
                task="sst2",
                base="base",
                train_seed=i,
                weights_digest="",
                clean_accuracy=0.9,
                majority_share=0.5,
                n_clean=872,
                merge_difference=None,
            )
            for i, arms in enumerate(names)
            for name, adaptation in zip(arms, ("full", "lora"), strict=True)
        ),
        testsets=tuple(
            TestsetRecord(
                name=f"set-{i}",
                task="sst2",
                kind="adversarial" if i else "clean",
                provenance="official",
                n=EXAMPLES,
                n_used=EXAMPLES,
                digest="",
                scores_f1=False,
            )
            for i in range(TESTSETS)
        ),
        attacks=tuple(
            AttackRecord(name=f"attack-{i}", family=("character", "word", "sentence")[i % 3], digest="")
            for i in range(ATTACKS)
        ),
        warnings=(),
        started="2026-01-01T00:00:00+00:00",
        machine="",
        versions={},
    )


def fill(folder: Path, record: RunRecord) -> None:
    """Writes the rows straight into the store's table: a million Outcome objects would take minutes."""
    Store(folder).close()
    rng = np.random.default_rng(0)
    texts = [json.dumps([" ".join(rng.choice(WORDS, 18)) + f" {i}"]) for i in range(EXAMPLES)]
    with sqlite3.connect(folder / "run.sqlite") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(outcomes)")]
        insert = f"INSERT INTO outcomes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for checkpoint in record.checkpoints:
            for testset in record.testsets:
                for attack in (NO_ATTACK, *(attack.name for attack in record.attacks)):
                    cell = Cell(checkpoint.name, testset.name, attack)
                    connection.executemany(insert, rows_of(cell, columns, texts, rng, checkpoint.adaptation))
    connection.close()


def rows_of(
    cell: Cell, columns: list[str], texts: list[str], rng: np.random.Generator, adaptation: str
) -> list[list[Any]]:
    broken = rng.random(EXAMPLES) < (0.5 if adaptation == "full" else 0.55)
    skipped = rng.random(EXAMPLES) < 0.1
    queries, scores = rng.integers(3, 400, EXAMPLES).tolist(), rng.random((EXAMPLES, 4)).tolist()
    rows = []
    for i in range(EXAMPLES):
        label = i % 2
        clean = 1 - label if skipped[i] else label
        values = {
            "checkpoint": cell.checkpoint,
            "testset": cell.testset,
            "attack": cell.attack,
            "example_id": f"{cell.testset}:{i}",
            "group_id": f"{cell.testset}:{i // 2}",
            "label": label,
            "status": "skipped" if skipped[i] else "succeeded" if broken[i] else "failed",
            "clean_prediction": clean,
            "adversarial_prediction": 1 - label if broken[i] else clean,
            "clean_score": scores[i][0],
            "score": scores[i][1],
            "queries": 0 if cell.attack == NO_ATTACK else queries[i],
            "forwards": queries[i],
            "modified_words": 2,
            "modified_share": scores[i][2],
            "similarity": 0.9,
            "seconds": scores[i][3],
            "original_text": texts[i],
            "adversarial_text": texts[i].replace(" ", f" {cell.attack} ", 1),
        }
        rows.append([values.get(column) for column in columns])
    return rows


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from Linux's /proc")
def test_a_million_rows_become_tables_and_a_page_in_a_minute_and_two_gigabytes(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    record = make_record()
    write_record(tmp_path, record)
    fill(tmp_path, record)

    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)

    figures = json.loads(done.stdout.splitlines()[-1])
    figures["page_megabytes"] = round((tmp_path / "report.html").stat().st_size / 1e6, 1)
    save_result("report_scale", figures)
    assert figures["rows"]["examples"] == 1_000_000
    assert figures["seconds"] < 60 and figures["peak_megabytes"] < 2048
