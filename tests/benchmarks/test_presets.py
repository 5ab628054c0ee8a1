"""The suites of probes on a real pair beside the clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness import RunSettings, api
from robustness.definitions.pairs import read_pairs
from robustness.reports.tables.columns import Table

CORES = 2
pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]


@pytest.fixture
def one_pair(minilm_pair: Path, tmp_path: Path) -> Path:
    """The first SST-2 pair alone: the suites promise minutes a pair."""
    pair = next(pair for pair in read_pairs(minilm_pair) if pair.task.name == "sst2")
    given = {"name": pair.name, "task": "sst2", "base": pair.base, "full": pair.reference, "peft": pair.candidate}
    lines = [f'{name} = "{value}"' for name, value in given.items()]
    file = tmp_path / "one.toml"
    file.write_text("[[pair]]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(("suite", "minutes"), [("probes-quick", 5), ("probes", 30)])
def test_a_suite_of_probes_takes_no_more_minutes_than_it_promises(
    suite: str,
    minutes: int,
    one_pair: Path,
    shared_data: Path,
    tmp_path: Path,
    save_result: Callable[[str, dict[str, Any]], None],
) -> None:
    """Promised for two cores; the load before says whether they were free."""
    torch.set_num_threads(CORES)
    load = os.getloadavg()[0]
    started, cpu = time.perf_counter(), time.process_time()

    report = api.run(suite, one_pair, tmp_path / "run", RunSettings(data=shared_data, device="cpu"))

    rows = report.tables[Table.SENSITIVITY]
    by_probe = rows.drop_duplicates(["checkpoint", "probe"]).groupby("probe")["seconds"].sum()
    figures = {
        "seconds": time.perf_counter() - started,
        "processor_seconds": time.process_time() - cpu,
        "load_before": load,
        "wall_seconds_by_probe": {
            str(name): float(value) for name, value in by_probe.sort_values(ascending=False).items()
        },
        "not_converged": sorted(
            f"{Path(row.checkpoint).name}: {row.probe} {row.quantity}: {row.reason}"
            for row in rows[rows["status"] == "not-converged"].itertuples()
        ),
    }
    save_result(suite.replace("-", "_"), figures)

    assert report.n_errored_measurements == 0
    assert figures["seconds"] < 60 * minutes
