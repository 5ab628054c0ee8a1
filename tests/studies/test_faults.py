from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from small_study import run_apart, write_study
from studies.conftest import Desk

from robustness.errors import RunError
from robustness.runs.storage.lock import hold_lock
from robustness.studies.graph import Kind
from robustness.studies.journal import State
from robustness.studies.tables import read_rows


def tables(out: Path) -> dict[str, list[dict[str, str]]]:
    """Every table of a study's folder, by path, without times."""
    return {
        path.relative_to(out).as_posix(): [
            {name: cell for name, cell in row.items() if "seconds" not in name} for row in read_rows(path)
        ]
        for path in sorted(out.rglob("*.csv"))
    }


PRELOADED = ["robustness.studies.training", "robustness.studies.running", "robustness.reports.report"]


def _start(desk: Desk) -> BaseProcess:
    """Starts a study in a process of its own, forked from one that has the libraries already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=run_apart, args=(desk.file, desk.out))
    process.start()
    return process


def _kill_after(desk: Desk, moment: str) -> None:
    """Starts the study, and kills it once a file of that pattern is there."""
    process = _start(desk)
    deadline = time.monotonic() + 240
    while not list(desk.out.glob(moment)) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()


MOMENTS = (
    "checkpoints/*.part",
    "checkpoints/tiny-lora-r1-seed0",
    "runs/*-best-*/run.sqlite",
    "runs/*-clean-*/run.json",
)


@pytest.mark.timeout(900)
def test_a_study_killed_at_four_moments_ends_in_the_same_tables(finished_once: Desk, tmp_path: Path) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")

    for moment in MOMENTS:
        _kill_after(desk, moment)
    result, _ = desk.run()

    assert all(ended.state is State.DONE for ended in result.ended.values())
    assert tables(desk.out) == tables(finished_once.out)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_study_killed_at_twenty_random_moments_ends_in_the_same_tables(finished_once: Desk, tmp_path: Path) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")
    draw = random.Random(7)

    for _ in range(20):
        process = _start(desk)
        process.join(draw.uniform(0.2, 15))
        process.kill()
        process.join()
    desk.run()

    assert tables(desk.out) == tables(finished_once.out)


def test_two_processes_on_one_study_are_refused(finished_once: Desk, tmp_path: Path) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")
    desk.out.mkdir()

    with hold_lock(desk.out), pytest.raises(RunError, match="is running here"):
        desk.run()


def test_a_folder_of_something_else_is_refused(finished_once: Desk, tmp_path: Path) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")
    desk.out.mkdir()
    (desk.out / "letters.txt").write_text("mine")

    with pytest.raises(RunError, match="holds something that is no study"):
        desk.run()
    (desk.out / "study.json").write_text(json.dumps({"name": "capacity"}))
    with pytest.raises(RunError, match="holds the study 'capacity', not 'study'"):
        desk.run()


def test_a_training_that_diverges_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    wild = tmp_path / "wild.toml"
    wild.write_text(
        'summary = "Diverges."\nlearning_rates = [1e38]\n[adapter]\npeft_type = "lora"\nrank = 2\nalpha = 16\n'
        'dropout = 0.0\ntarget_modules = "attention"\n'
    )
    file = write_study(tmp_path, methods='["full", "wild.toml", "bitfit"]', seeds="[0]")
    desk = Desk(file, tmp_path / "out")

    result, _ = desk.run()

    rows = {row["method"]: row for row in read_rows(desk.out / "checkpoints.csv")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "full": "trained",
        "wild": "failed",
        "bitfit": "trained",
    }
    assert "not finite" in rows["wild"]["reason"]
    assert result.count(Kind.TRAIN, State.FAILED) == 1 and result.count(Kind.RUN, State.DONE) == 1
    assert desk.run()[1] == []  # a recorded failure is not tried again


def test_pairs_that_the_gate_refuses_are_rows(finished: Desk) -> None:
    """The full arm's head is drawn anew, so it has not learnt the task."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = finished.out / "checkpoints" / "tiny-full-seed0" / "model.safetensors"
    tensors = load_file(weights)
    tensors["classifier.weight"] = torch.zeros_like(tensors["classifier.weight"])
    save_file(tensors, weights, metadata={"format": "pt"})
    journal = finished.out / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if json.loads(line)["kind"] == "train"]
    journal.write_text("".join(f"{line}\n" for line in lines))

    finished.run()

    rows = [row for row in read_rows(finished.out / "checkpoints.csv") if row["matching"] == "best"]
    status = {row["checkpoint"]: row["status"] for row in rows}
    assert {name for name, each in status.items() if each == "refused"} == {
        "tiny-lora-r1-seed0",
        "tiny-lora-r2-seed0",
    }
    assert all("clean-accuracy" in row["reason"] for row in rows if row["status"] == "refused")


def test_a_full_disk_ends_the_study_and_the_same_call_resumes(
    finished_once: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")
    shutil.copytree(finished_once.out, desk.out)
    journal = desk.out / "journal.jsonl"
    kept = [line for line in journal.read_text().splitlines() if json.loads(line)["kind"] != "report"]
    journal.write_text("".join(f"{line}\n" for line in kept))

    def fail(_folder: Path) -> None:
        raise OSError(28, "No space left on device", str(desk.out))

    monkeypatch.setattr("studies.conftest.write_report", fail)
    with pytest.raises(RunError, match="the disk is full"):
        desk.run()
    monkeypatch.undo()
    result, said = desk.run()

    assert all(ended.state is State.DONE for ended in result.ended.values())
    assert not [line for line in said if line.startswith(("train", "run "))]
