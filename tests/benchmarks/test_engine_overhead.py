"""What the engine itself costs: queries a second and memory with a model that answers for nothing."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.definitions.catalog import TESTSETS
from robustness.engine.attack import ScoreRows
from robustness.engine.scheduler import Scheduler
from robustness.recipes.building import find_attack
from robustness.testsets.example import Example, Texts
from robustness.testsets.loading import load_testset

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


class ConstantVictim:
    """Never changes its mind: every search goes to its end."""

    def scores(self, texts: Sequence[Texts]) -> ScoreRows:
        return np.tile(np.array([[0.0, 1.0]], dtype=np.float32), (len(texts), 1))


def endless(examples: Sequence[Example]) -> Iterator[Example]:
    """The examples over and over, each time as new ones, all with the label that the victim answers."""
    turn = 0
    while True:
        for example in examples:
            yield replace(example, id=f"{example.id}/{turn}", label=1, _spans=None)
        turn += 1


def peak_megabytes(examples: Sequence[Example], count: int) -> float:
    attack = find_attack("deepwordbug")
    tracemalloc.start()
    for _ in Scheduler(attack, ConstantVictim(), seed=0, width=64).run(islice(endless(examples), count)):
        pass
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


def test_the_engine_handles_20000_queries_a_second_in_flat_memory(
    shared_data: Path, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    examples = load_testset(TESTSETS.find("sst2"), shared_data).examples
    scheduler = Scheduler(find_attack("deepwordbug"), ConstantVictim(), seed=0)
    rates, wall_rates = [], []
    for _ in range(3):
        started = time.process_time(), time.perf_counter()
        queries = sum(o.queries for o in scheduler.run(islice(endless(examples), 1000)))
        rates.append(queries / (time.process_time() - started[0]))
        wall_rates.append(queries / (time.perf_counter() - started[1]))
        print(f"{rates[-1]:.0f} queries a processor second", flush=True)
    figures = {
        "queries": queries,
        "queries_a_processor_second": float(np.median(rates)),
        "queries_a_wall_second": float(np.median(wall_rates)),
        "peak_megabytes_100_examples": peak_megabytes(examples, 100),
        "peak_megabytes_10000_examples": peak_megabytes(examples, 10_000),
    }

    save_result("engine_overhead", figures)

    assert figures["queries_a_processor_second"] >= 20_000
    assert figures["peak_megabytes_10000_examples"] <= 1.5 * figures["peak_megabytes_100_examples"] + 5
