"""checkpoints.csv and runs.csv of trainings that a recipe added rows to, or that left no record."""

from __future__ import annotations

import json
from pathlib import Path

from small_study import write_study

from robustness.definitions.studies import find_study
from robustness.studies.design import Matching, resolve
from robustness.studies.graph import checkpoint_folder, run_folder
from robustness.studies.pairing import choose_arms
from robustness.studies.tables import CHECKPOINT_COLUMNS, read_rows, write_checkpoints, write_runs

TRAINED = {("full", 50): 50, ("lora", 50): 50, ("full+deepwordbug", 50): 99,
           ("full", 100): 64, ("lora", 100): 64, ("full+deepwordbug", 100): 127}  # fmt: skip
"""Rows of each training by its limit; the file has 64 rows."""


def test_rows_are_those_of_the_group_whatever_a_recipe_adds_to_one(tmp_path: Path) -> None:
    file = write_study(
        tmp_path, methods='["full+deepwordbug", "full", "lora", "bitfit"]', seeds="[0]", more="rows = [50, 100]"
    )
    design, out = resolve(find_study(str(file)), None), tmp_path / "out"
    for checkpoint in design.checkpoints:
        rows = TRAINED.get((checkpoint.variant.name, checkpoint.rows or 0))
        if rows is not None:
            _write_training(checkpoint_folder(out, checkpoint), rows)
    arms = {(group.label, Matching.BEST): choose_arms(group, Matching.BEST, out, 0.0) for group in design.groups}

    write_checkpoints(design, arms, {}, out)
    for run in design.runs:
        run_folder(out, run).mkdir(parents=True)
        (run_folder(out, run) / "run.json").touch()
    write_runs(design, arms, out)

    written = read_rows(out / "checkpoints.csv")
    assert list(written[0]) == list(CHECKPOINT_COLUMNS) and list(written[0])[-1] == "trained_rows"
    assert [(row["method"], row["rows"], row["trained_rows"]) for row in written] == [
        ("full+deepwordbug", "50", "99"), ("full", "50", "50"), ("lora", "50", "50"), ("bitfit", "50", ""),
        ("full+deepwordbug", "64", "127"), ("full", "64", "64"), ("lora", "64", "64"), ("bitfit", "64", ""),
    ]  # fmt: skip
    assert [row["rows"] for row in read_rows(out / "runs.csv")] == ["50", "64"]


def _write_training(folder: Path, rows: int) -> None:
    content = {
        "reason": "",
        "epoch": 1,
        "selecting_scores": [0.8],
        "fingerprint": {"rows_trained": rows},
        "parameters_trained": 10,
        "parameters": 100,
        "seconds": 1.0,
    }
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(json.dumps(content), encoding="utf-8")
