"""`make gpu` runs to its end where there is no GPU: every step on small models."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu.bench import Bench
from gpu.catalogue import NOT_PRETENDED
from gpu.models import TINY
from gpu.probes import PROBES as PROBED
from gpu.steps import Found, Result, Row, Step, StepError, line, require, run_steps
from robustness.definitions.catalog import PROBES

ROOT = Path(__file__).resolve().parents[2]
NEEDS = "needs "
PROBLEMS = """
import torch
from gpu.pretend import pretending

def refused(work):
    try:
        work()
    except RuntimeError as error:
        return str(error)

with pretending():
    there = torch.ones(2, 3).to("pretend")
    print(refused(lambda: there + torch.ones(3)))
    print(refused(lambda: torch.randn(3, generator=torch.Generator(), device="pretend")))
    print(refused(lambda: there.numpy()))
    print(refused(lambda: there + 1 + torch.tensor(2.0)), (there * torch.ones(3, device="pretend")).sum().item())
"""


def run_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests" / "gpu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def check_rows(done: subprocess.CompletedProcess[str], out: Path) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert max(map(len, done.stdout.splitlines()[2:])) <= 100
    rows: list[dict[str, Any]] = json.loads((out / "gpu.json").read_text())["steps"]
    assert [row["figure"] for row in rows if row["result"] == Result.FAILED] == []
    assert all(row["figure"].startswith(NEEDS) for row in rows if row["result"] == Result.SKIPPED)
    return rows


def test_every_step_that_places_no_model_itself_passes_where_tensors_of_two_devices_may_not_meet(
    tmp_path: Path,
) -> None:
    rows = check_rows(run_check("--device", "pretend", "--size", "tiny", "--out", str(tmp_path)), tmp_path)

    named = {row["step"]: row for row in rows}
    assert named["halving"]["details"]["tokens"] <= 200
    assert {f"probe {name}" for name in PROBED} < named.keys()
    assert len([row for row in rows if row["result"] == Result.OK]) >= 30


def test_every_other_step_passes_with_small_models_on_the_processor(tmp_path: Path) -> None:
    steps = [step.name for step in NOT_PRETENDED]
    only = [argument for name in steps for argument in ("--only", name)]
    rows = check_rows(run_check("--device", "cpu", "--size", "tiny", "--out", str(tmp_path), *only), tmp_path)

    named = {row["step"]: row for row in rows}
    assert named.keys() == set(steps)
    assert named["workers on one GPU"]["details"]["same"] == named["workers on one GPU"]["details"]["rows"]


@pytest.mark.soak  # most of them pass on the pretended device, which forbids more
def test_every_step_passes_with_small_models_on_the_processor(tmp_path: Path) -> None:
    check_rows(run_check("--device", "cpu", "--size", "tiny", "--out", str(tmp_path)), tmp_path)


def test_the_pretended_device_refuses_what_cuda_refuses() -> None:
    paths = f"import sys; sys.path[:0] = {[str(ROOT / 'tests'), str(ROOT)]}\n"

    done = subprocess.run([sys.executable, "-c", paths + PROBLEMS], capture_output=True, text=True, check=True)

    mixed, drawn, converted, last = done.stdout.splitlines()
    assert "same device" in mixed and "generator" in drawn and "numpy" in converted
    assert last == "None 6.0"


def test_without_a_gpu_the_check_says_so_in_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    done = run_check("--out", str(tmp_path))

    assert done.returncode == 0
    assert done.stdout.startswith("no CUDA device here: nothing was checked") and done.stdout.count("\n") == 1
    assert not (tmp_path / "gpu.json").exists()


def test_every_shipped_probe_is_measured() -> None:
    assert sorted(PROBED) == PROBES.names()


def test_memory_is_made_short_by_what_a_batch_takes_and_is_whole_again_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fractions = []
    monkeypatch.setattr("gpu.bench._measure_batch", lambda device, victim, tokens: tokens)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100_000))
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: fractions.append((share, device.index))
    )
    bench = Bench(torch.device("cuda:0"), TINY, tmp_path)

    with pytest.raises(KeyError), bench.short_of_memory(None, 1_000):
        raise KeyError("in the middle")

    assert fractions == [(0.21, 0), (1.0, 0)]


def rows_of(*steps: Step[None], budget: float = 60.0, lost: str | None = None) -> list[Row]:
    return run_steps(steps, None, budget, lambda: lost, lambda row: None)


def fail(_: None) -> Found:
    require(False, "two is not three")
    raise AssertionError("never reached")


def raise_value_error(_: None) -> Found:
    raise ValueError("of several\nlines")


def sleep(_: None) -> Found:
    time.sleep(5)
    return Found("slept")


def test_a_step_that_fails_keeps_the_others_from_nothing() -> None:
    rows = rows_of(Step("a", fail), Step("b", raise_value_error), Step("c", lambda _: Found("fine")))

    assert [(row.result, row.figure) for row in rows] == [
        (Result.FAILED, "two is not three"),
        (Result.FAILED, "ValueError: of several lines"),
        (Result.OK, "fine"),
    ]
    with pytest.raises(StepError):
        fail(None)


def test_a_step_that_takes_too_long_fails_and_one_beyond_the_budget_is_skipped() -> None:
    rows = rows_of(Step("slow", sleep, seconds=0.05), Step("cut", sleep), Step("late", sleep), budget=0.2)

    assert [row.result for row in rows] == [Result.FAILED, Result.SKIPPED, Result.SKIPPED]
    assert rows[1].figure.endswith("all that was left")
    assert rows[2].figure == "the budget of 0.2 s is spent"


def test_what_a_step_lacks_and_a_device_that_is_lost_are_reasons_to_skip() -> None:
    needy = Step("needy", sleep, needs=("a_library_nobody_has", "json"))

    assert rows_of(needy)[0].figure == "needs a_library_nobody_has"
    assert [row.figure for row in rows_of(Step("a", fail), Step("b", sleep), lost="gone")][1] == (
        "the device is lost: gone"
    )


def test_a_row_is_readable_at_100_columns() -> None:
    row = Row("probe a-name-of-many-parts-in-a-row", Result.FAILED, "word " * 60, 1234.5)

    assert max(map(len, line(row).splitlines())) <= 100
