from __future__ import annotations

from typing import Any

import pytest

from robustness.engine.outcome import Outcome, Status
from robustness.progress import LiveScore
from robustness.runs.progress import Meter


def outcome(status: Status, queries: int = 10, **values: Any) -> Outcome:
    fields = dict.fromkeys(Outcome.__dataclass_fields__) | {"example_id": "e", "group_id": "g", "gold": "1"}
    return Outcome(**(fields | {"status": status, "queries": queries, "forwards": 1, "seconds": 0.0} | values))


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_cell_shows_its_speed_and_the_arms_side_by_side() -> None:
    clock = Clock()
    meter = Meter(clock)
    full = meter.start("full", "sst2", "swap", 3)
    lora = meter.start("lora", "sst2", "swap", 4)
    meter.start("full", "sst2", "other", 1)
    full.add([outcome(Status.FAILED), outcome(Status.SUCCEEDED), outcome(Status.ERRORED)])
    clock.now = 2.0
    lora.add([outcome(Status.FAILED, queries=30), outcome(Status.SKIPPED, queries=0)])

    cell = lora.read()

    assert (cell.done, cell.total) == (2, 4)
    assert cell.queries_per_second == pytest.approx(15)
    assert cell.scores == (LiveScore("full", 0.5, 2), LiveScore("lora", 0.5, 2))


def test_where_nothing_attacks_the_answer_to_the_row_counts() -> None:
    meter = Meter(Clock()).start("full", "sst2", "none", 2)
    meter.add([outcome(Status.SKIPPED, correct=True), outcome(Status.FAILED, correct=False)])

    assert meter.read().scores == (LiveScore("full", 0.5, 2),)
