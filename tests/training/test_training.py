from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustness.definitions.pairs import read_pairs, stored_pairs, write_pairs
from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, DefinitionError, RunError, UsageError
from robustness.training import training
from robustness.training.examples.loading import load_rows
from robustness.training.execution import checkpoints
from robustness.training.jobs import TrainingJob, TrainingResult
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import Trial
from robustness.training.training import train
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.loading import load_checkpoint, place, to_victim

SETTINGS = TrainingSettings(epochs=2, batch_size=8, max_tokens=16, dev_limit=40)
Train = Callable[..., Path]


@pytest.fixture
def again(trained: Path, tiny_base: Path, data: Path, testset: str, tmp_path: Path) -> Train:
    """Calls train as the fixture `trained` did, into a copy of its folder, but for what is given."""
    out = tmp_path / "out"
    shutil.copytree(trained.parent, out)

    def call(**changed: object) -> Path:
        given = {
            "base": str(tiny_base), "methods": ["full", "lora"], "seeds": [0], "out": out, "data": data,
            "limit": 64, "settings": SETTINGS, "device": "cpu",
        }  # fmt: skip
        return train(testset, **(given | changed))  # type: ignore[arg-type]

    return call


@pytest.mark.parametrize("arm", ["reference", "candidate"])
def test_a_checkpoint_loads_back_with_the_accuracy_it_was_chosen_for(
    trained: Path, testset: str, data: Path, arm: str
) -> None:
    (pair,) = read_pairs(trained)
    record = json.loads((Path(getattr(pair, arm)) / "training.json").read_text(encoding="utf-8"))
    dev = load_rows(testset, data, None, SETTINGS.dev_limit).selecting

    checkpoint = read_checkpoint(arm, getattr(pair, arm), pair.base)
    loaded = load_checkpoint(checkpoint, pair.task)
    victim = to_victim(loaded, place("cpu"))
    answers = victim.scores([example.texts for example in dev]).argmax(axis=1)

    assert loaded.uninitialised == ()
    assert checkpoint.adaptation == ("full" if arm == "reference" else "lora")
    assert np.mean(answers == [example.label for example in dev]) == record["selecting_score"]


@pytest.mark.parametrize("arm", ["reference", "candidate"])
def test_the_chosen_checkpoint_is_scored_on_the_half_of_the_rows_that_chose_nothing(
    trained: Path, testset: str, data: Path, arm: str
) -> None:
    (pair,) = read_pairs(trained)
    record = json.loads((Path(getattr(pair, arm)) / "training.json").read_text(encoding="utf-8"))
    rows = load_rows(testset, data, None, SETTINGS.dev_limit)

    victim = to_victim(load_checkpoint(read_checkpoint(arm, getattr(pair, arm), pair.base), pair.task), place("cpu"))
    answers = victim.scores([example.texts for example in rows.reporting]).argmax(axis=1)

    assert not {example.id for example in rows.reporting} & {example.id for example in rows.selecting}
    assert record["metric"] == "accuracy"
    assert record["fingerprint"]["reporting_rows"] == len(rows.reporting) == 30
    assert np.mean(answers == [example.label for example in rows.reporting]) == record["reporting_score"]


def test_a_checkpoint_that_all_development_rows_selected_is_not_taken_for_a_new_one(
    again: Train, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "tiny-full-seed0" / "training.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["fingerprint"].pop("reporting_rows")
    record["fingerprint"]["dev_rows"] = record["fingerprint"].pop("selecting_rows")
    path.write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(RunError, match="selecting_rows: None there, 30 asked for"):
        again()


def test_the_pairs_file_names_task_seed_and_the_base_by_a_relative_path(trained: Path, tiny_base: Path) -> None:
    (pair,) = read_pairs(trained)

    assert (pair.name, pair.task.name, pair.seed) == ("tiny-lora-seed0", "sst2", 0)
    assert Path(pair.base) == tiny_base
    assert (pair.reference_name, pair.candidate_name) == ("tiny-full-seed0", "tiny-lora-seed0")
    assert str(tiny_base) not in trained.read_text(encoding="utf-8")


def test_an_adapter_folder_has_label_names_and_the_absolute_base(trained: Path, tiny_base: Path) -> None:
    folder = trained.parent / "tiny-lora-seed0"

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert adapter["base_model_name_or_path"] == str(tiny_base)


def test_the_record_has_every_trial_and_the_best_one_was_chosen(trained: Path) -> None:
    record = json.loads((trained.parent / "tiny-lora-seed0" / "training.json").read_text(encoding="utf-8"))

    best = max(record["trials"], key=lambda trial: (max(trial["selecting_scores"]), -trial["learning_rate"]))
    assert [trial["learning_rate"] for trial in record["trials"]] == [5e-4, 2e-3]
    assert record["learning_rate"] == best["learning_rate"]
    assert record["selecting_score"] == best["selecting_scores"][record["epoch"] - 1]
    assert (record["fingerprint"]["rows_trained"], record["fingerprint"]["selecting_rows"]) == (64, 30)
    assert 0 < record["trained_share"] < 1


def test_the_same_call_again_trains_nothing(again: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "run_trial", _must_not_run)

    pairs = again()

    assert len(read_pairs(pairs)) == 1


def test_an_unfinished_checkpoint_is_made_again_and_nothing_half_written_stays(again: Train, trained: Path) -> None:
    out = again().parent
    lines: list[str] = []
    (out / "tiny-lora-seed0").rename(out / "tiny-lora-seed0.0123abcd.part")  # of a killed process
    (out / "tiny-lora-seed0.0123abcd.part" / "stale").touch()

    again(progress=lines.append)

    weights = "tiny-lora-seed0/adapter_model.safetensors"
    assert (out / weights).read_bytes() == (trained.parent / weights).read_bytes()
    assert not (out / "tiny-lora-seed0" / "stale").exists()
    assert not list(out.glob("*.part"))
    assert lines[0].startswith("lora seed 0 lr 5e-4 epoch 1/2: dev accuracy 0.")
    assert len(lines) == 4


def test_a_second_seed_joins_the_pairs_that_are_there(again: Train) -> None:
    pairs = again(seeds=[1], settings=SETTINGS)

    assert [pair.seed for pair in read_pairs(pairs)] == [0, 1]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"limit": 32}, r"rows_trained: 64 there, 32 asked for"),
        ({"settings": dataclasses.replace(SETTINGS, epochs=3)}, r"settings\.epochs: 2 there, 3 asked for"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_by_what_differs(
    again: Train, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(RunError, match=named):
        again(**changed)


def test_a_training_file_in_another_order_is_other_rows(again: Train, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "sorted")
    header, *lines = (data / "train.tsv").read_text(encoding="utf-8").splitlines()
    text = "\n".join([header, *sorted(lines)]) + "\n"
    (tmp_path / "sorted" / "train.tsv").write_text(text, encoding="utf-8")

    with pytest.raises(RunError, match=r"trained otherwise \(rows_digest: \w{16} there, \w{16} asked for\)"):
        again(data=tmp_path / "sorted")


def test_a_pair_that_another_call_writes_meanwhile_stays(again: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    train_jobs = training.train_jobs

    def write_meanwhile(jobs: Sequence[TrainingJob], *rest: Any) -> list[TrainingResult]:
        path = jobs[0].folder.parent / "pairs.toml"
        (here,) = stored_pairs(path)
        write_pairs(path, [here, here.model_copy(update={"name": "tiny-bitfit-seed0", "peft": "tiny-bitfit-seed0"})])
        return train_jobs(jobs, *rest)

    monkeypatch.setattr(training, "train_jobs", write_meanwhile)

    pairs = again()

    assert [each.name for each in stored_pairs(pairs)] == ["tiny-bitfit-seed0", "tiny-lora-seed0"]


def test_a_folder_that_is_no_finished_checkpoint_is_refused(again: Train, tmp_path: Path) -> None:
    (tmp_path / "out" / "tiny-full-seed0" / "training.json").unlink()

    with pytest.raises(RunError, match=r"no readable training\.json"):
        again()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"limit": 0}, UsageError, "--limit 0: expected 1 or more"),
        ({"methods": ["full", "lara"]}, DefinitionError, "did you mean 'lora'"),
        ({"methods": ["lora"]}, UsageError, "a pair needs --method full and one PEFT method"),
        ({"methods": ["full"]}, UsageError, "a pair needs --method full and one PEFT method"),
        ({"seeds": []}, UsageError, "--seed: got none"),
        ({"seeds": [-1]}, UsageError, "--seed -1: expected 0 to 4294967295"),
        ({"device": "tpu"}, UsageError, "unknown device"),
        ({"base": "/no/such/folder"}, CheckpointError, "no folder /no/such/folder"),
        ({"base": "ADAPTER"}, CheckpointError, "holds adapter_config.json, so it is an adapter; give the base"),
        ({"base": "EMPTY"}, CheckpointError, "has no config.json; expected a folder that save_pretrained wrote"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_trained(
    again: Train,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(checkpoints, "run_trial", _must_not_run)
    (tmp_path / "empty").mkdir()
    folders = {"ADAPTER": str(trained.parent / "tiny-lora-seed0"), "EMPTY": str(tmp_path / "empty")}
    changed = {key: folders.get(str(value), value) for key, value in changed.items()}

    with pytest.raises(error, match=message):
        again(**changed)


def test_matched_pairs_are_of_the_epochs_closest_in_clean_accuracy(
    again: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, testset: str, data: Path
) -> None:
    monkeypatch.setattr(training, "_floor", lambda rows, settings: 0.0)  # two epochs teach next to nothing
    settings = dataclasses.replace(SETTINGS, match="clean")
    lines: list[str] = []

    pairs = again(methods=["full", "bitfit"], out=tmp_path / "other", settings=settings, progress=lines.append)

    (pair,) = read_pairs(pairs)
    dev = load_rows(testset, data, None, SETTINGS.dev_limit).selecting
    curves, measured = [], []
    for reference in (pair.reference, pair.candidate):
        folder = Path(reference)
        record = json.loads((folder.parent / "training.json").read_text(encoding="utf-8"))
        victim = to_victim(
            load_checkpoint(read_checkpoint("x", reference, pair.base), find_task("sst2")), place("cpu")
        )
        answers = victim.scores([example.texts for example in dev]).argmax(axis=1)
        measured.append(np.mean(answers == [example.label for example in dev]))
        curves.append(record["selecting_scores"])
        assert measured[-1] == record["selecting_scores"][int(folder.name.removeprefix("epoch-")) - 1]
    gaps = [abs(a - b) for a in curves[0] for b in curves[1]]
    assert abs(measured[0] - measured[1]) == pytest.approx(min(gaps))
    assert lines[-1].startswith("tiny-bitfit-seed0: epoch ")


def test_what_the_study_did_is_named_in_every_checkpoint(
    again: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    run_trial = checkpoints.run_trial

    def short(trial: Trial, *rest: object) -> object:
        seen.append((trial.learning_rate, trial.settings.epochs, trial.settings.batch_size))
        return run_trial(dataclasses.replace(trial, settings=SETTINGS), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "run_trial", short)
    settings = dataclasses.replace(SETTINGS, protocol="paper")

    pairs = again(methods=["full", "prefix"], out=tmp_path / "other", settings=settings)

    (pair,) = read_pairs(pairs)
    assert (pair.reference_name, pair.candidate_name) == ("tiny-full-paper-seed0", "tiny-prefix-paper-seed0")
    assert seen == [(2e-5, 20, 32), (1e-2, 50, 32)]


def test_the_record_has_curves_order_seed_and_memory(trained: Path) -> None:
    record = json.loads((trained.parent / "tiny-full-seed0" / "training.json").read_text(encoding="utf-8"))

    assert [len(trial["losses"]) for trial in record["trials"]] == [SETTINGS.epochs] * 2
    assert all(0 < loss < 2 for trial in record["trials"] for loss in trial["losses"])
    assert record["order_seed"] == int(np.random.SeedSequence(0).generate_state(1)[0])
    assert record["peak_memory_bytes"] > 10_000_000
    assert record["trained_share"] == 1


def test_a_diverged_arm_is_recorded_as_failed_and_its_pairs_are_left_out(
    again: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fail(monkeypatch, {"lora"})
    lines: list[str] = []
    settings = dataclasses.replace(SETTINGS, epochs=1)
    given = {"methods": ["full", "lora", "bitfit"], "out": tmp_path / "other", "limit": 16, "settings": settings}

    pairs = again(progress=lines.append, **given)
    monkeypatch.setattr(checkpoints, "run_trial", _must_not_run)
    again(**given)

    record = json.loads((tmp_path / "other/tiny-lora-seed0/training.json").read_text(encoding="utf-8"))
    assert [pair.name for pair in read_pairs(pairs)] == ["tiny-bitfit-seed0"]
    assert (record["failed"], record["learning_rate"]) == (True, None)
    assert not list((tmp_path / "other/tiny-lora-seed0").glob("*.safetensors"))
    assert "tiny-lora-seed0: failed: the loss was not finite at any learning rate (5e-4, 2e-3)" in lines
    assert "tiny-lora-seed0: left out of the pairs file: tiny-lora-seed0 failed" in lines


def test_when_every_pair_has_failed_the_call_is_refused(
    again: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _fail(monkeypatch, {"full"})

    with pytest.raises(RunError, match=r"no pair resulted: failed were tiny-full-seed0;"):
        again(out=tmp_path / "other", limit=16)
    assert not (tmp_path / "other" / "pairs.toml").exists()


def _fail(monkeypatch: pytest.MonkeyPatch, methods: set[str]) -> None:
    run_trial = checkpoints.run_trial

    def fail(trial: Trial, *rest: object) -> object:
        model, result = run_trial(trial, *rest)  # type: ignore[arg-type]
        return model, dataclasses.replace(result, failed=trial.method.name in methods)

    monkeypatch.setattr(checkpoints, "run_trial", fail)


def _must_not_run(*args: object) -> None:
    raise AssertionError("nothing should be trained")
