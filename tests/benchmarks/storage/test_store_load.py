"""A million outcomes through the store: rows a second, size, and what reading costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustness.engine.outcome import Outcome, Status
from robustness.runs.cells import Cell
from robustness.runs.storage.store import FILE_NAME, Store

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
ROWS = 1_000_000
A_TRANSACTION = 100
"""What a fast victim ends in the half second between two flushes."""
TEXT = "it 's a charming and often affecting journey , and one of the best films of the year so far . "


def outcome(number: int) -> Outcome:
    text = f"{TEXT}{number}"
    return Outcome(
        example_id=f"sst2:{number}",
        group_id=f"sst2:{number}",
        clean_correct=True,
        correct=not number % 3,
        clean_quality=0.93125,
        quality=0.25,
        clean_response="positive",
        response="negative" if number % 3 else "positive",
        gold="positive",
        status=Status.SUCCEEDED if number % 3 else Status.FAILED,
        queries=40,
        forwards=42,
        modified_words=2,
        modified_share=0.1,
        similarity=0.95,
        seconds=0.01,
        original_text=(text,),
        adversarial_text=(text.replace("best", "bset"),),
    )


def test_a_million_outcomes_are_stored(tmp_path: Path, save_result: Callable[[str, dict[str, Any]], None]) -> None:
    store = Store(tmp_path)
    batch = [outcome(number) for number in range(1000)]
    made = [batch[start : start + A_TRANSACTION] for start in range(0, len(batch), A_TRANSACTION)]
    seconds, processor, log_peak = [], time.process_time(), 0
    for cell in range(ROWS // len(batch)):
        started = time.perf_counter()
        for outcomes in made:
            store.add(Cell("full", "sst2", f"attack-{cell:04d}"), outcomes)
        seconds.append(time.perf_counter() - started)
        log_peak = max(log_peak, (tmp_path / f"{FILE_NAME}-wal").stat().st_size)
    processor = time.process_time() - processor
    started = time.perf_counter()
    assert len(store.finished(Cell("full", "sst2", "attack-0500"))) == len(batch)
    looked_up = time.perf_counter() - started
    started = time.perf_counter()
    counts = store.count_successes()
    counted = time.perf_counter() - started
    store.close()
    tenth = len(seconds) // 10
    figures = {
        "rows": ROWS,
        "rows_a_transaction": A_TRANSACTION,
        "rows_a_second": round(ROWS / sum(seconds)),
        "rows_a_processor_second": round(ROWS / processor),
        "rows_a_second_first_tenth": round(tenth * len(batch) / sum(seconds[:tenth])),
        "rows_a_second_last_tenth": round(tenth * len(batch) / sum(seconds[-tenth:])),
        "megabytes": round((tmp_path / FILE_NAME).stat().st_size / 2**20, 1),
        "log_peak_megabytes": round(log_peak / 2**20, 1),
        "seconds_to_resume_a_cell": round(looked_up, 4),
        "seconds_to_count_all": round(counted, 2),
    }

    save_result("store_load", figures)

    assert sum(judged for _, judged in counts.values()) == ROWS
    assert figures["rows_a_processor_second"] > 5_000
