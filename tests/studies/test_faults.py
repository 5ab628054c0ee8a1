from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_disk import small_disk
from small_study import write_study
from studies.conftest import Desk

from robustness.errors import RunError
from robustness.studies.graph import Kind
from robustness.studies.journal import State
from robustness.studies.tables import read_rows

WILD = """
summary = "Diverges."
learning_rates = [1e38]
[adapter]
peft_type = "lora"
rank = 2
alpha = 16
dropout = 0.0
target_modules = "attention"
"""


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
    wild.write_text(WILD)
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


def test_a_run_of_an_earlier_content_is_not_reported_where_no_pair_is_left(finished: Desk) -> None:
    (finished.file.parent / "wild.toml").write_text(WILD)
    write_study(finished.file.parent, methods='["full", "wild.toml"]')

    result, _ = finished.run()

    assert result.count(Kind.GATE, State.REFUSED) == 1
    assert read_rows(finished.out / "runs.csv") == []
    table = read_rows(finished.out / "study_table.csv")
    assert {(row["method"], row["value"]) for row in table} == {("full", ""), ("wild", "")}


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


def test_the_table_of_jobs_is_written_by_the_next_call_if_the_last_was_killed_before_it(
    finished: Desk, finished_once: Desk
) -> None:
    (finished.out / "jobs.csv").unlink()

    assert finished.run()[1] == []

    assert finished.tables()["jobs.csv"] == finished_once.tables()["jobs.csv"]


def test_a_full_disk_ends_trainings_and_runs_at_once_and_the_same_call_resumes(tmp_path: Path) -> None:
    """There is no room for what a study writes first, then none for a checkpoint, then none for the page of a run."""
    file = write_study(tmp_path, methods='["full", "lora"]', seeds="[0]")
    whole = Desk(file, tmp_path / "whole")
    whole.run()

    with small_disk(tmp_path / "disk", 4) as disk:
        desk = Desk(file, disk.place / "out")
        for kilobytes in (4, 8, 12):  # the lock, the digests, the record
            disk.resize(kilobytes)
            with pytest.raises(RunError, match="out: the disk is full: .*make space, and the same command resumes"):
                desk.run()
        assert (desk.out / "study.json").is_file() and not (desk.out / "graph.json").exists()

        disk.resize(40)
        with pytest.raises(RunError, match="tiny-full-seed0: the disk is full: .*make space, and the same command"):
            desk.run()
        assert not list(desk.out.glob("checkpoints/*"))

        disk.resize(200)
        with pytest.raises(RunError, match="out: the disk is full: .*make space, and the same command resumes"):
            desk.run()
        assert {path.name for path in desk.out.glob("checkpoints/tiny-*-seed0")} == {
            "tiny-full-seed0",
            "tiny-lora-seed0",
        }

        disk.resize(10_000)
        result, said = desk.run()
        assert all(ended.state is State.DONE for ended in result.ended.values())
        assert not [line for line in said if " epoch " in line]
        assert desk.tables() == whole.tables()
