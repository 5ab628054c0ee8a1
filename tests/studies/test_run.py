from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_study import write_study
from studies.conftest import Desk

from robustness.definitions.pairs import PairsDefinition
from robustness.definitions.reading import read_definition
from robustness.errors import RunError
from robustness.options import StudySettings
from robustness.progress import Progress
from robustness.runs.storage.record import read_record, write_record
from robustness.runs.storage.store import read_outcomes
from robustness.studies.carrying import carry_outcomes
from robustness.studies.digests import FileDigests
from robustness.studies.graph import Kind, build_graph
from robustness.studies.journal import Journal, State
from robustness.studies.tables import read_rows
from robustness.study_call import report_study, study


def _columns(path: Path, *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in read_rows(path)]


def _placeless(desk: Desk, *given: Desk) -> dict[str, str]:
    """The tables without the folder of the base, or of the base that the study was copied with."""
    found = desk.tables()
    for each in (desk, *given):
        found = {name: content.replace(str(each.file.parent), "") for name, content in found.items()}
    return found


def test_a_run_that_died_before_its_first_outcome_hands_none_on(finished: Desk, tmp_path: Path) -> None:
    for name in ("begun", "died", "next"):
        shutil.copytree(finished.out / "runs" / "tiny-best-letters", tmp_path / name)
    for name in ("died", "next"):
        (tmp_path / name / "run.sqlite").write_bytes(b"")

    assert carry_outcomes(tmp_path / "died", tmp_path / "next") == 0
    assert carry_outcomes(tmp_path / "begun", tmp_path / "next") == len(read_outcomes(tmp_path / "begun")) > 0


def test_outcomes_are_handed_on_to_a_run_with_other_cells(finished: Desk, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for each in (old, new):
        shutil.copytree(finished.out / "runs" / "tiny-best-letters", each)
    (new / "run.sqlite").write_bytes(b"")
    record = read_record(new)
    cells = {topic: "another digest" for topic in record.fingerprint if topic.startswith("cells: ")}
    write_record(new, record.model_copy(update={"fingerprint": record.fingerprint | cells}))

    assert carry_outcomes(old, new) == len(read_outcomes(old)) > 0
    assert len(cells) == 1


def test_a_study_trains_gates_runs_and_reports_all_of_its_design(finished_once: Desk) -> None:
    result, said = finished_once.run()

    assert said == []  # the second call has nothing to do
    counts = {kind: result.count(kind, State.DONE) for kind in Kind}
    assert counts == {Kind.TRAIN: 6, Kind.GATE: 2, Kind.RUN: 2, Kind.REPORT: 3}
    assert _columns(finished_once.out / "runs.csv", "task", "rows", "matching", "suite", "folder") == [
        ("sst2", "64", "best", "letters", "runs/tiny-best-letters"),
        ("sst2", "64", "clean", "letters", "runs/tiny-clean-letters"),
    ]
    for folder in ("runs/tiny-best-letters", "runs/tiny-clean-letters"):
        assert (finished_once.out / folder / "pairs.csv").is_file()
        assert (finished_once.out / folder / "report.html").is_file()


def test_a_studys_trainings_count_their_steps(small: Path, tmp_path: Path) -> None:
    told: list[Progress] = []

    study(small, tmp_path / "out", StudySettings(device="cpu"), on_progress=told.append)

    training = [each for each in told if each.message.startswith("training ")]
    # Two epochs of 64 rows, 16 a step, for each of full and lora.
    assert (training[-1].done, training[-1].total) == (16, 16)
    assert training[-1].message == "training lora seed 0"
    assert told.index(training[-1]) < next(i for i, each in enumerate(told) if "deepwordbug" in each.message)


def test_the_table_of_checkpoints_has_each_with_its_parameters(finished_once: Desk) -> None:
    rows = read_rows(finished_once.out / "checkpoints.csv")

    best = [row for row in rows if row["matching"] == "best"]
    assert [row["checkpoint"] for row in best][:3] == ["tiny-full-seed0", "tiny-lora-r1-seed0", "tiny-lora-r2-seed0"]
    assert [json.loads(row["parameters"]) for row in best][:3] == [{}, {"rank": 1}, {"rank": 2}]
    # LoRA of rank r on query and value has 2 x 2 x 32 x r numbers; the head has 2 x 33.
    assert [int(row["trainable_parameters"]) for row in best][1:3] == [128 * rank + 66 for rank in (1, 2)]
    assert {row["family"] for row in best} == {"full", "lora"}
    assert {row["status"] for row in rows} == {"trained"}
    assert all((finished_once.out / row["folder"] / "config.json").is_file() for row in rows)


def test_matched_candidates_share_the_full_arm_at_its_best_epoch(finished_once: Desk) -> None:
    rows = read_rows(finished_once.out / "checkpoints.csv")

    assert {row["matching"] for row in rows if row["family"] == "full"} == {"best"}
    matched = read_definition(finished_once.out / "checkpoints" / "tiny-clean.toml", PairsDefinition).pair
    assert {(pair.full, pair.seed) for pair in matched} == {("tiny-full-seed0", 0), ("tiny-full-seed1", 1)}
    assert [pair.peft for pair in matched] == [
        row["checkpoint"] for row in rows if row["matching"] == "clean" and row["family"] == "lora"
    ]


def test_only_the_epochs_that_are_compared_are_kept(finished_once: Desk) -> None:
    kept = {path.relative_to(finished_once.out).as_posix() for path in finished_once.out.rglob("epoch-*")}

    rows = read_rows(finished_once.out / "checkpoints.csv")
    assert kept == {row["folder"] for row in rows if "/epoch-" in row["folder"]}


def test_what_both_matchings_share_is_attacked_once(finished_once: Desk) -> None:
    files = [finished_once.out / "runs" / f"tiny-{each}-letters" / "examples.csv" for each in ("best", "clean")]

    columns = "checkpoint", "attack", "example_id", "seconds"
    first, second = ([row for row in _columns(file, *columns) if row[0] == "tiny-full-seed0"] for file in files)
    assert len(first) == 24
    assert first == second  # a second attack would have taken another time


def test_another_seed_trains_and_attacks_only_what_is_new(finished: Desk) -> None:
    before = {row["checkpoint"]: row for row in read_rows(finished.out / "runs/tiny-best-letters/attacks.csv")}
    write_study(finished.file.parent, more='match = "clean"', seeds="[0, 1, 2]")

    result, said = finished.run()

    trained = [line for line in said if line.startswith("train ")]
    assert [line.split(":")[0] for line in trained if "in 0.0 s" not in line][-3:] == [
        "train tiny-full-seed2",
        "train tiny-lora-r1-seed2",
        "train tiny-lora-r2-seed2",
    ]
    assert len(trained) == 3
    after = {row["checkpoint"]: row for row in read_rows(finished.out / "runs/tiny-best-letters/attacks.csv")}
    assert set(after) > set(before)
    assert {name: after[name]["seconds"] for name in before} == {name: row["seconds"] for name, row in before.items()}
    assert len(read_record(finished.out / "runs" / "tiny-best-letters").pairs) == 6
    assert result.count(Kind.RUN, State.DONE) == 2


def test_another_training_setting_trains_again_under_the_same_names(finished: Desk) -> None:
    write_study(finished.file.parent, more='match = "clean"', epochs=1)

    result, _ = finished.run()

    assert result.count(Kind.TRAIN, State.DONE) == 6
    record = json.loads((finished.out / "checkpoints/tiny-full-seed0/training.json").read_text())
    assert record["fingerprint"]["settings"]["epochs"] == 1
    assert not list(finished.out.rglob("*.replaced"))


def test_a_file_that_is_changed_and_changed_back_ends_in_its_own_tables(finished: Desk, finished_once: Desk) -> None:
    write_study(finished.file.parent, more='match = "clean"', epochs=1)
    finished.run()
    write_study(finished.file.parent, more='match = "clean"')

    result, said = finished.run()

    assert result.count(Kind.TRAIN, State.DONE) == 6
    assert len([line for line in said if line.startswith("train ")]) == 6
    assert _placeless(finished, finished_once) == _placeless(finished_once)
    assert finished.run()[1] == []


def test_a_run_that_was_started_again_is_filled_although_it_was_full_before(
    finished: Desk, finished_once: Desk
) -> None:
    """The file had another seed for a while, and the process was killed after the gate of either content."""
    design = finished.design()
    graph, journal = build_graph(design, FileDigests(finished.out)), Journal(finished.out)
    gate = graph.of("tiny-best-letters", Kind.GATE)
    journal.begin("of another content", gate.kind, gate.name)
    (finished.out / "runs" / "tiny-best-letters" / "run.sqlite").unlink()

    _, said = finished.run()

    assert [line.split(":")[0] for line in said] == [
        "gate tiny-best-letters",
        "run tiny-best-letters",
        "report tiny-best-letters",
        "report study",
    ]
    assert _placeless(finished, finished_once) == _placeless(finished_once)


@pytest.mark.parametrize("is_killed", [False, True])
def test_trainings_in_float32_for_want_of_bfloat16_are_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_killed: bool
) -> None:
    """Killed before any training was noted, for all are noted at their end."""
    monkeypatch.setattr("robustness.training.jobs.faster_dtype", lambda _device: torch.float32)
    desk = Desk(
        write_study(tmp_path, methods='["full", "lora"]', seeds="[0]", training="bf16 = true"), tmp_path / "out"
    )
    desk.run()
    before = {path: path.stat().st_mtime_ns for path in desk.out.rglob("*.safetensors")}
    if is_killed:
        (desk.out / "journal.jsonl").unlink()

    _, said = desk.run()

    assert {path: path.stat().st_mtime_ns for path in desk.out.rglob("*.safetensors")} == before
    assert len([line for line in said if line.startswith("train ")]) == (2 if is_killed else 0)


def test_a_removed_checkpoint_is_made_and_attacked_again_and_no_other(finished: Desk) -> None:
    examples = finished.out / "runs" / "tiny-best-letters" / "examples.csv"
    columns = "checkpoint", "attack", "example_id", "seconds"
    others = [row for row in _columns(examples, *columns) if row[0] != "tiny-lora-r1-seed1"]
    shutil.rmtree(finished.out / "checkpoints" / "tiny-lora-r1-seed1")

    _, said = finished.run()

    assert [line.split(":")[0] for line in said if line.startswith("train ")] == ["train tiny-lora-r1-seed1"]
    after = [row for row in _columns(examples, *columns) if row[0] != "tiny-lora-r1-seed1"]
    assert after == others  # a second attack would have taken another time


def test_a_study_is_reported_again_from_what_its_folder_holds(finished_once: Desk, tmp_path: Path) -> None:
    desk = Desk(finished_once.file, tmp_path / "out")
    shutil.copytree(finished_once.out, desk.out)
    written = [desk.out / name for name in ("study.html", "answers.txt", "study_table.csv")]
    written.append(desk.out / "runs" / "tiny-best-letters" / "pairs.csv")
    for path in written:
        path.unlink()

    answers = report_study(desk.out)

    assert all(path.is_file() for path in written)
    assert answers == finished_once.run()[0].answers != ()
    assert desk.tables() == finished_once.tables()


def test_a_folder_that_is_no_study_is_not_reported_as_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no study.json; expected a folder that `robustness study` wrote"):
        report_study(tmp_path)
