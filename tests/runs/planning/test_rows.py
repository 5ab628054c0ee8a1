from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustness import RunSettings, api
from robustness.cli import main
from robustness.definitions.catalog import TESTSETS
from robustness.errors import RunError
from robustness.reports.summaries.run_facts import run_facts
from robustness.reports.tables.columns import Table
from robustness.runs.planning.rows import draw_examples, draw_groups, use_rows
from robustness.runs.preparation import prepare
from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space
from robustness.sensitivity.probe import Reading
from robustness.testsets.example import Example
from robustness.testsets.halves import halve
from robustness.testsets.loading import load_testset
from robustness.victims.files.selection import selecting_digest


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
    return api.run("smoke", pairs, out, RunSettings(**options))


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
    assert [(each.noise_floor, each.n_noise) for each in report.record.checkpoints] == [(0, 16)] * 2


@pytest.mark.parametrize("selected_on", [None, "another set's digest"])
def test_checkpoints_selected_elsewhere_leave_a_set_whole(tiny: Any, tmp_path: Path, selected_on: str | None) -> None:
    report = start(tiny, copy_pair(tiny, tmp_path, selected_on), tmp_path / "run", limit=24)

    (testset,) = report.record.testsets
    assert (testset.n, testset.n_selecting, testset.n_used) == (24, 0, 24)
    assert used_ids(report)["lora", "none"] == ids(load(tiny).examples)


def test_a_run_whose_rows_would_change_is_not_resumed(tiny: Any, selected: Any, tmp_path: Path) -> None:
    shutil.copytree(selected.folder.parent, tmp_path / "copy")
    (tmp_path / "copy" / "lora" / "training.json").unlink()

    with pytest.raises(RunError, match=r"selecting rows: tiny \(no longer asked for\)"):
        start(tiny, tmp_path / "copy" / "pairs.toml", tmp_path / "copy" / "run", limit=24, probes=["margin"])


TABLE = """summary = "A table."
licence = "CC0-1.0"
task = "sst2"
kind = "clean"

[[test.local]]
reader = "table"
root = "definition"
file = "own.csv"
columns = ["sentence"]
label = "label"
group = "group"
"""
ROWS = (
    "a,a fine film,positive,x",
    "b,a dull film,negative,x",
    "c,a superb song,positive,y",
    "d,a bleak song,negative,y",
)


def fingerprint(tiny: Any, folder: Path, rows: tuple[str, ...], more: str = "") -> dict[str, str]:
    (folder / "own.toml").write_text(TABLE + more)
    (folder / "own.csv").write_text("\n".join(["id,sentence,label,group", *rows]))
    settings = RunSettings(testsets=[str(folder / "own.toml")], attacks=["identity"], data=tiny.data)
    return prepare(api._make_plan("smoke", tiny.pairs, settings)).fingerprint


@pytest.mark.parametrize(
    ("more", "rows", "changed"),
    [
        ("", ROWS[::-1], {"rows: own"}),
        ('id = "id"', ROWS[::-1], set()),
        ('id = "id"', (ROWS[0].replace(",x", ",y"), *ROWS[1:]), {"rows: own"}),
        ('id = "id"', ("b" + ROWS[0][1:], "a" + ROWS[1][1:], *ROWS[2:]), {"rows: own"}),
    ],
    ids=["reordered", "reordered with ids", "another group", "ids exchanged"],
)
def test_a_run_is_bound_to_what_each_id_stands_for(
    tiny: Any, tmp_path: Path, more: str, rows: tuple[str, ...], changed: set[str]
) -> None:
    """Outcomes are stored by id; where ids number the rows, another order gives them other texts."""
    before = fingerprint(tiny, tmp_path, ROWS, more)

    after = fingerprint(tiny, tmp_path, rows, more)

    assert {topic for topic in before | after if before.get(topic) != after.get(topic)} == changed


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
    assert re.search(r"no attack +2 +24\b", shown), shown


@pytest.fixture(scope="module")
def by_label(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny set with its rows sorted by label: 16 of one, then 8 of the other."""
    folder = tmp_path_factory.mktemp("sorted")
    rows = sorted(tiny.rows, key=lambda row: row[1])
    rows = [*rows[:16], *rows[-8:]]
    (folder / "tiny").mkdir()
    lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
    (folder / "tiny" / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return SimpleNamespace(testset=tiny.testset, data=folder, folder=tiny.folder, pairs=tiny.pairs)


def test_a_limit_draws_from_a_file_that_is_sorted_by_label_as_many_of_each_as_it_has(
    by_label: Any, tmp_path: Path
) -> None:
    report = start(by_label, by_label.pairs, tmp_path / "run", limit=6, probes=["margin"])

    rows = report.tables[Table.EXAMPLES]
    drawn = rows[(rows["checkpoint"] == "full") & (rows["attack"] == "none")]
    assert Counter(drawn["gold"]) == {"negative": 4, "positive": 2}
    cells = used_ids(report)
    assert len(cells) == 4 and all(cell == cells["full", "none"] for cell in cells.values())
    (testset,) = report.record.testsets
    assert testset.drawn == "drawn at random by the seed, stratified by label, in whole groups"
    assert ("examples of each test set", f"at most 6, {testset.drawn}") in run_facts(report.record)


def test_a_probe_that_takes_fewer_rows_has_both_labels_too(by_label: Any, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    class Labels:
        space = Space.INPUT

        def measure(self, subject: Any) -> Any:
            seen["examples"] = [example.label for example in subject.examples]
            yield Reading(Measurement(Quantity("x"), 1.0, Kind.EXACT), subject.examples[0])

    report = start(by_label, by_label.pairs, tmp_path / "run", limit=12, probes=[Labels])

    assert report.n_errored_measurements == 0
    assert Counter(seen["examples"][:3]) == {0: 2, 1: 1}


def test_the_seed_alone_says_which_rows_are_drawn(tiny: Any) -> None:
    def drawn(*testsets: str, seed: int = 0) -> set[str]:
        plan = api.plan("smoke", tiny.pairs, RunSettings(data=tiny.data, testsets=testsets, limit=8, seed=seed))
        return ids(use_rows(plan, {})["tiny"].examples)

    alone = drawn(str(tiny.testset))

    assert drawn("demo-sentiment", str(tiny.testset)) == alone
    assert len(alone) == 8 and drawn(str(tiny.testset), seed=1) not in (alone, set())


def test_groups_are_drawn_whole_and_generated_files_have_a_runs_questions(answering: Any) -> None:
    rows = [replace(e, id=f"{e.id}{part}", group_id=e.id) for e in answering.examples() for part in ("", "-altered")]
    testset = replace(load(answering), examples=tuple(rows))

    drawn = draw_examples(testset, 12, seed=0)

    assert set(Counter(example.group for example in drawn).values()) == {2}
    assert draw_groups(testset, 6, seed=0) == drawn


def test_the_checkpoint_of_one_epoch_finds_the_record_above_it(tmp_path: Path) -> None:
    (tmp_path / "epoch-2").mkdir()
    (tmp_path / "training.json").write_text('{"fingerprint": {"dev_digest": "abc"}}')

    assert selecting_digest(tmp_path / "epoch-2") == selecting_digest(tmp_path) == "abc"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": 3}', '{"fingerprint": {"dev_digest": 3}}'])
def test_another_programs_training_record_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)

    assert selecting_digest(tmp_path) is None
