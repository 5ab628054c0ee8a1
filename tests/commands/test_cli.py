from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import Call, one_paragraph
from robustness.definitions.catalog import ATTACKS, TESTSETS
from robustness.listing import list_kind


def test_list_and_show_tell_what_is_shipped(call: Call) -> None:
    attacks, shown = call("list", "attacks"), call("show", "deepwordbug")

    assert attacks.returncode == shown.returncode == 0
    assert [line.split()[0] for line in attacks.stdout.splitlines()] == ATTACKS.names()
    assert "arXiv:1801.04354" in shown.stdout


@pytest.mark.parametrize("kind", ["attacks", "suites", "testsets", "methods", "tasks"])
def test_every_kind_can_be_listed(call: Call, kind: str) -> None:
    assert call("list", kind).stdout.strip()


def test_the_list_of_test_sets_has_provenance_size_and_licence_of_each() -> None:
    listed = dict(list_kind("testsets"))

    for name, line in listed.items():
        definition = TESTSETS.find(name).definition
        facts = line[1 : line.index("] ")]
        assert line.startswith("[") and facts.endswith(f"; {definition.licence}") and definition.licence
        assert re.match(r"(official|generated|own)[a-z ]*, [\d,]+ rows", facts), facts
    assert listed["advsquad-addany"].startswith("[generated against each checkpoint, 2,000 rows; ")
    assert listed["demo-sentiment"].startswith("[own, 206 rows; ")
    assert listed["qqp"].startswith("[official, 40,430 rows or sample, 19,347 rows; ")


def test_a_run_prints_a_short_table_and_its_progress_on_stderr(call: Call, tiny: Any, tmp_path: Path) -> None:
    arguments = ["smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)]

    dry = call("run", *arguments, "--out", str(tmp_path / "run"), "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[2].startswith("4 cells, at most 20 examples each; a cell: ")
    assert "on one A100" in dry.stdout
    assert not (tmp_path / "run").exists()

    done = call("run", *arguments, "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "deepwordbug" in done.stdout and "difference" in done.stdout
    assert done.stderr == "[0/84] checking the pairs\n"

    again = call("report", str(tmp_path / "run"))
    assert again.stdout == done.stdout
    with (tmp_path / "run" / "examples.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 80


def test_errored_rows_give_exit_code_1(call: Call, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from robustness import Access\n"
        "class Broken:\n"
        "    access = Access.SCORES\n"
        "    def search(self, example, rng):\n"
        "        yield [example]\n"
        "        if example.id.endswith('1'):\n"
        "            raise RuntimeError('broken on purpose')\n"
        "        return example\n"
    )

    done = call(
        *("run", "smoke", "--pairs", str(tiny.pairs), "--data", str(tiny.data), "--testset", str(tiny.testset)),
        *("--attack", f"{tmp_path / 'mine.py'}:Broken", "--out", str(tmp_path / "run")),
    )

    assert done.returncode == 1
    assert "examples errored; see the column error" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "advglu", "--pairs", "p.toml", "--out", "o"], "did you mean 'advglue'"),
        (["run", "smoke", "--pairs", "missing.toml", "--out", "o"], "missing.toml: no such file"),
        (["run", "smoke", "--pairs", "p.toml", "--out", "o", "--limit", "0"], "--limit 0: expected at least 1"),
        (["show", "deepwordbugs"], "did you mean 'deepwordbug'"),
        (["list", "attack"], "did you mean 'attacks'"),
        (["report", "missing"], "no run.json"),
        (["train", "sst3", "--base", "b", "--method", "full", "--method", "lora", "--out", "o"], "sst2"),
    ],
)
def test_wrong_input_is_one_paragraph_on_stderr_and_exit_code_2(
    call: Call, arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = call(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert one_paragraph(done.stderr), done.stderr
    assert done.stdout == ""
    assert list((tmp_path / "cwd").iterdir()) == []


def test_wrong_usage_is_exit_code_2(call: Call) -> None:
    assert call("run").returncode == 2
    assert call("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "two"], "error: --limit two: expected a whole number\n"),
        (["--limit=1.5"], "error: --limit 1.5: expected a whole number\n"),
        (["--tflops", "fast"], "error: --tflops fast: expected a number\n"),
        (["--seed", "0", "--seed", "a"], "error: --seed a: expected a whole number\n"),
    ],
)
def test_a_number_that_is_none_is_told_by_option_and_value(call: Call, words: list[str], said: str) -> None:
    done = call("run", "smoke", "--pairs", "p", "--out", "o", *words)

    assert (done.returncode, done.stderr) == (2, said)


def test_data_from_the_variable_is_checked(
    call: Call, monkeypatch: pytest.MonkeyPatch, tiny: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTNESS_DATA", str(tmp_path / "gone"))

    done = call("run", "smoke", "--pairs", str(tiny.pairs), "--out", "o")

    assert done.returncode == 2
    assert "ROBUSTNESS_DATA" in done.stderr and "no such folder" in done.stderr


def test_without_data_and_offline_the_hub_is_asked_and_the_message_says_what_to_do(tiny: Any, tmp_path: Path) -> None:
    """As a process of its own: the console script's way in, and the hub's cache of nobody."""
    inherited = {key: value for key, value in os.environ.items() if key != "ROBUSTNESS_DATA"}
    command = [sys.executable, "-c", "from robustness.cli import main; main()", "run", "advglue"]

    done = subprocess.run(
        [*command, "--pairs", str(tiny.pairs), "--out", "o"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=inherited | {"HF_HOME": str(tmp_path / "hub")},
        check=False,
    )

    assert done.returncode == 2
    assert "--data" in done.stderr
    assert one_paragraph(done.stderr), done.stderr


def test_how_to_train_is_handed_on(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from robustness.training import training
    from robustness.training.protocol import TrainingSettings

    given: list[TrainingSettings] = []
    monkeypatch.setattr(training, "train", lambda *args, **options: given.append(options["settings"]) or tmp_path)
    needed = ["train", "sst2", "--base", "b", "--method", "full", "--method", "lora", "--out", str(tmp_path / "ck")]

    plain = call(*needed)
    done = call(*needed, "--steps", "40", "--grid", "wide", "--accumulation", "4", "--bf16")
    of_text = call(*needed, "--grid", "one", "--targets", "linear", "--dev-limit", "20", "--checkpointing")
    refused = call(*needed, "--grid", "huge")

    assert plain.returncode == done.returncode == of_text.returncode == 0
    assert given == [
        TrainingSettings(),
        TrainingSettings(max_steps=40, grid="wide", accumulation=4, bf16=True),
        TrainingSettings(grid="one", targets="linear", dev_limit=20, checkpointing=True),
    ]
    assert refused.returncode == 2 and "--grid huge: expected one of 'shipped', 'wide' or 'one'" in refused.stderr


def test_options_of_a_runs_report_are_refused_for_a_study(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they are set to, and however its folder is named."""
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.json").write_text("{}")
    monkeypatch.setenv("PLACE", str(tmp_path))

    for options in (["--margin", "0"], ["--margin", "0.1"], ["--format", "latex"], ["--model-card"]):
        done = call("report", "$PLACE/study", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is a study; options change the report of a run alone" in " ".join(done.stderr.split())
