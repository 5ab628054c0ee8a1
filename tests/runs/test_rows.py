from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from robustness import api
from robustness.cli import main
from robustness.definitions.catalog import TESTSETS
from robustness.errors import RunError
from robustness.reports.columns import Table
from robustness.reports.method import run_facts
from robustness.testsets.example import Example
from robustness.testsets.halves import halve
from robustness.testsets.loading import load_testset
from robustness.victims.selection import selecting_digest


def copy_pair(world: Any, folder: Path, selected_on: str | None) -> Path:
    """The world's pair elsewhere, its PEFT arm with a training record; returns the pairs file."""
    for name in ("base", "full", "lora"):
        shutil.copytree(world.folder / name, folder / name)
    if selected_on is not None:
        record = {"fingerprint": {"dev_digest": selected_on}}
        (folder / "lora" / "training.json").write_text(json.dumps(record))
    return Path(shutil.copy(world.pairs, folder / "pairs.toml"))


def load(world: Any) -> Any:
    return load_testset(TESTSETS.find(str(world.testset)), world.data)


def start(world: Any, pairs: Path, out: Path, **options: Any) -> Any:
    options = {"testsets": [str(world.testset)], "attacks": ["identity"], "data": world.data} | options
    return api.run("smoke", pairs, out, **options)


def used_ids(report: Any) -> dict[tuple[str, str], set[str]]:
    """Example ids by checkpoint and attack."""
    rows = report.tables[Table.EXAMPLES]
    return {cell: set(ids) for cell, ids in rows.groupby(["checkpoint", "attack"])["example_id"]}


def ids(examples: tuple[Example, ...]) -> set[str]:
    return {example.id for example in examples}


@pytest.fixture(scope="module")
def selected(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on the very set that selected one of its arms."""
    folder = tmp_path_factory.mktemp("selected")
    pairs = copy_pair(tiny, folder, load(tiny).digest)
    return start(tiny, pairs, folder / "run", limit=24, probes=["margin"])


def test_rows_that_selected_one_arm_are_left_out_for_both(tiny: Any, selected: Any) -> None:
    reporting = ids(halve(load(tiny).examples).reporting)

    assert len(reporting) == 12
    cells = [(arm, attack) for arm in ("full", "lora") for attack in ("none", "identity")]
    assert used_ids(selected) == dict.fromkeys(cells, reporting)
    assert set(selected.tables[Table.SENSITIVITY_EXAMPLES]["example_id"]) == reporting


def test_the_gate_measures_clean_accuracy_on_the_reporting_rows(selected: Any) -> None:
    assert [checkpoint.n_clean for checkpoint in selected.record.checkpoints] == [12, 12]


def test_what_is_left_out_is_in_the_record_and_on_the_page(selected: Any) -> None:
    (testset,) = selected.record.testsets

    assert (testset.n, testset.n_selecting, testset.n_used, testset.drawn) == (24, 12, 12, "all")
    said = "12 of 24 rows left out: learning rate and epoch of a checkpoint were selected on them"
    assert (f"rows of {testset.name}", said) in run_facts(selected.record)
    assert said in (selected.folder / "report.html").read_text(encoding="utf-8")


def test_questions_that_selected_an_arm_are_left_out_as_well(answering: Any, tmp_path: Path) -> None:
    pairs = copy_pair(answering, tmp_path, load(answering).digest)

    report = start(answering, pairs, tmp_path / "run", limit=40)

    reporting = ids(halve(load(answering).examples).reporting)
    assert len(reporting) == 20
    assert used_ids(report)["lora", "none"] == used_ids(report)["full", "none"] == reporting
    assert [checkpoint.n_clean for checkpoint in report.record.checkpoints] == [20, 20]


@pytest.mark.parametrize("selected_on", [None, "another set's digest"])
def test_checkpoints_selected_elsewhere_leave_a_set_whole(tiny: Any, tmp_path: Path, selected_on: str | None) -> None:
    report = start(tiny, copy_pair(tiny, tmp_path, selected_on), tmp_path / "run", limit=24)

    (testset,) = report.record.testsets
    assert (testset.n, testset.n_selecting, testset.n_used) == (24, 0, 24)
    assert used_ids(report)["lora", "none"] == ids(load(tiny).examples)


def test_a_run_whose_rows_would_change_is_not_resumed(tiny: Any, selected: Any) -> None:
    pairs = selected.folder.parent / "pairs.toml"
    record = pairs.parent / "lora" / "training.json"
    content = record.read_text()
    record.unlink()

    with pytest.raises(RunError, match=r"rows: tiny \(changed\)"):
        start(tiny, pairs, selected.folder, limit=24, probes=["margin"])
    record.write_text(content)
    again = start(tiny, pairs, selected.folder, limit=24, probes=["margin"])
    assert used_ids(again) == used_ids(selected)


def test_a_dry_run_says_what_is_left_out_and_counts_the_rest(
    tiny: Any, selected: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = selected.folder.parent / "pairs.toml"
    words = ["robustness", "run", "smoke", "--pairs", str(pairs), "--data", str(tiny.data), "--testset"]
    words += [str(tiny.testset), "--attack", "identity", "--out", str(pairs.parent / "none"), "--tflops", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--limit", "24", "--dry-run"])

    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out

    assert "tiny: 12 of 24 rows left out: learning rate and epoch of a checkpoint were selected on them" in shown
    assert "none: 12 forwards a cell, 2 cells" in shown


def test_the_checkpoint_of_one_epoch_finds_the_record_above_it(tmp_path: Path) -> None:
    (tmp_path / "epoch-2").mkdir()
    (tmp_path / "training.json").write_text('{"fingerprint": {"dev_digest": "abc"}}')

    assert selecting_digest(tmp_path / "epoch-2") == selecting_digest(tmp_path) == "abc"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": 3}', '{"fingerprint": {"dev_digest": 3}}'])
def test_another_programs_training_record_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)

    assert selecting_digest(tmp_path) is None
