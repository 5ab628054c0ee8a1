from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_study import write_study
from studies.conftest import Desk

from robustness.definitions.studies import find_study
from robustness.runs.planning.estimate import Rate
from robustness.studies.design import resolve
from robustness.studies.foresight import FULL_PASSES, Forecast, detectable_slope, forecast

RATE = Rate(1e9, "given")
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def test_a_forecast_names_each_part_and_writes_nothing(tmp_path: Path) -> None:
    file = write_study(tmp_path, more='match = "clean"', methods='["full", { method = "lora", rank = [1, 2, 4] }]')

    found = forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE)

    assert [(part.name, part.jobs) for part in found.parts] == [
        ("train tiny", 8),
        ("run tiny-best-letters", 3),
        ("run tiny-clean-letters", 3),
    ]
    assert found.done == 0 and found.jobs == 15
    assert all(part.hours(RATE.flops) > 0 for part in found.parts)
    assert found.parts[2].flops == pytest.approx(found.parts[1].flops * 6 / 8)  # the two full arms are carried over
    assert "a trend over the rank of lora needs 3 training seeds; this study has 2" in found.lines
    assert any("here 2" in line for line in found.lines)
    assert not (tmp_path / "out").exists()


def test_full_fine_tuning_alone_costs_three_passes_of_its_rows(tmp_path: Path) -> None:
    file = write_study(tmp_path, methods='["full"]', epochs=2)

    part = forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE).parts[0]

    # 64 rows in two epochs and 40 selecting rows after each, for two seeds at one rate.
    rows = 2 * (FULL_PASSES * 2 * 64 + 2 * 40)
    longer = write_study(tmp_path, methods='["full"]', epochs=4)
    other = forecast(resolve(find_study(str(longer)), None), tmp_path / "out", "cpu", RATE).parts[0]
    assert other.flops / part.flops == pytest.approx(2)
    assert part.flops % rows == pytest.approx(0, abs=1e-6 * part.flops)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_freelb_costs_what_was_measured(method: str, tmp_path: Path) -> None:
    """The time of three passes over that of one, scoring apart, as the benchmark has it; within a tenth."""
    measured = json.loads((RESULTS / "adversarial_training.json").read_text())["figures"][
        f"{method}_freelb_over_plain"
    ]

    def flops(methods: str) -> float:
        file = write_study(tmp_path, methods=methods, seeds="[0, 1]")
        return forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE).parts[0].flops

    full = flops('["full"]')
    per_text = full / (2 * (FULL_PASSES * 2 * 64 + 2 * 40))
    scored = 2 * 2 * 40 * per_text
    plain = full if method == "full" else flops('["full", "lora"]') - full
    defended = flops(f'["full", "{method}+freelb"]') - full
    assert (defended - scored) / (plain - scored) == pytest.approx(measured, rel=0.1)


def test_rows_that_a_recipe_adds_are_counted_once_each(tmp_path: Path) -> None:
    def forecast_of(methods: str, epochs: int) -> Forecast:
        file = write_study(tmp_path, methods=methods, epochs=epochs)
        return forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE)

    full = forecast_of('["full"]', 2).parts[0].flops
    per_text = full / (2 * (FULL_PASSES * 2 * 64 + 2 * 40))
    found = forecast_of('["full", "full+deepwordbug"]', 2)

    # Twice the rows in each of two epochs, and the same scoring.
    assert found.parts[0].flops - full == pytest.approx(per_text * 2 * (FULL_PASSES * 2 * 128 + 2 * 40))
    assert any("rows that a recipe adds" in line for line in found.lines)


def test_trends_of_a_forecast_are_of_one_family(tmp_path: Path) -> None:
    methods = '["full", { method = "lora", rank = [1, 2] }, { method = "lora+freelb", rank = [1, 2, 4] }]'
    file = write_study(tmp_path, methods=methods, seeds="[0, 1, 2]")

    found = forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE)

    (line,) = (line for line in found.lines if line.startswith("a trend over"))
    assert "the rank of lora+freelb" in line and "over 3 values" in line


def test_a_finished_study_costs_nothing_more(finished_once: Desk) -> None:
    found = forecast(finished_once.design(), finished_once.out, "cpu", RATE)

    assert found.done == found.jobs
    assert sum(part.flops for part in found.parts) == 0
    assert any("2 of 2 run folders are started" in line for line in found.lines)


def test_what_needs_a_lost_checkpoint_is_left_to_do(finished: Desk) -> None:
    shutil.rmtree(finished.out / "checkpoints" / "tiny-lora-r1-seed1")

    found = forecast(finished.design(), finished.out, "cpu", RATE)

    # The training; gate, run and report of either matching; and the study's report.
    assert found.jobs - found.done == 1 + 2 * 3 + 1
    assert [part.jobs for part in found.parts] == [1, 3, 3]


def test_the_papers_protocol_costs_its_own_epochs(tmp_path: Path) -> None:
    file = write_study(tmp_path, methods='["full"]', epochs=2)
    equal = forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE).parts[0].flops
    text = file.read_text().replace('epochs = 2\ngrid = "one"', 'protocol = "paper"')
    file.write_text(text)

    paper = forecast(resolve(find_study(str(file)), None), tmp_path / "out", "cpu", RATE).parts[0].flops

    # The method's file has 20 epochs at one rate for sst2, in place of 2.
    assert paper == pytest.approx(10 * equal)


def test_the_detectable_slope_is_found_in_four_of_five_simulated_studies() -> None:
    """Least squares on simulated accuracies, as the closed form has it; normal quantile."""
    ranks, seeds, n = (1, 2, 4, 8, 16, 32, 64), 5, 400
    doses = np.repeat([math.log2(rank) for rank in ranks], seeds)
    slope = detectable_slope(ranks, seeds, n)
    rng = np.random.default_rng(0)

    noise = rng.normal(0, math.sqrt(0.01**2 + 0.25 / n), (4000, len(doses)))
    centred = doses - doses.mean()
    fitted = slope + noise @ centred / (centred**2).sum()
    error = math.sqrt((0.01**2 + 0.25 / n) / (centred**2).sum())
    assert np.mean(np.abs(fitted) > 1.96 * error) == pytest.approx(0.8, abs=0.02)
