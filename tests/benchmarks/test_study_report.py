"""The tables and the page of a study of 60 checkpoints, 11 test sets and 8 attacks, from synthetic rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
from generated_studies import FULL, Method, Shape, ranks, write_study

from robustness.reports.studies.study import write_study as answer

SETS = tuple(f"{'adv' if number % 2 else 'set'}-{number}" for number in range(11))
ATTACKS = tuple(f"attack-{number}" for number in range(8))
SECONDS = 120
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


def test_a_large_study_is_answered_in_two_minutes(
    tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    others = [Method(f"method{number}", 5_000 * (number + 1), robust=0.4) for number in range(11)]
    sizes = ranks(0.02, of=(1, 2, 4, 8, 16, 32, 64, 128))
    shape = Shape(methods=(FULL, *others, *sizes), seeds=3, n=156, sets=SETS, attacks=ATTACKS, probes=True)
    folder = write_study(tmp_path / "study", shape)

    started, worked = time.perf_counter(), time.process_time()
    sentences = answer(folder)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked

    assert sentences
    save_result(
        "study_report",
        {
            "checkpoints": 3 * len(shape.methods),
            "testsets": len(SETS),
            "attacks": len(ATTACKS),
            "rows": 3 * len(shape.methods) * len(SETS) * (1 + len(ATTACKS)) * shape.n,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),  # of one thread: the seconds of an idle machine
            "most_seconds": SECONDS,
            "peak_mb": round(getrusage(RUSAGE_SELF).ru_maxrss / 1024),
            "page_kb": round((folder / "study.html").stat().st_size / 1024),
        },
    )
    assert cpu_seconds <= SECONDS
