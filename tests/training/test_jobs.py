"""Jobs of any kinds in one call: each ends as a folder, or as a failure with its reason."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from robustness.definitions.catalog import Entry
from robustness.errors import UsageError
from robustness.progress import Progress
from robustness.training import callbacks, trainer
from robustness.training.adaptation import Base, adapt
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.execution import checkpoints, context
from robustness.training.execution.bench import Assignment, TrainingBench
from robustness.training.execution.meter import Meter
from robustness.training.jobs import TrainingJob, TrainingResult, make_checkpoints
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings

SETTINGS = TrainingSettings(epochs=1, batch_size=8, max_tokens=16, dev_limit=16, report_limit=8, grid="one")
Make = Callable[..., TrainingJob]


@pytest.fixture
def job(tiny_base: Path, data: Path, testset: str, tmp_path: Path) -> Make:
    """Makes a job of the tiny base and rows, but for what is given."""

    def make(name: str, method: str = "full", **changed: Any) -> TrainingJob:
        base = Base(tiny_base, str(tiny_base))
        made = TrainingJob(testset, base, find_method(method), 0, tmp_path / name, SETTINGS, data, limit=16)
        return dataclasses.replace(made, **changed)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "training.json").read_text(encoding="utf-8")))


def run(jobs: Sequence[TrainingJob], **given: Any) -> list[TrainingResult]:
    return make_checkpoints(jobs, device="cpu", **given)


def test_jobs_of_several_limits_share_what_is_equal_and_keep_their_order(
    job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, encoded = [], []

    def load(*given: Any) -> Any:
        loaded.append(given[2])
        return load_rows(*given)

    def encode(*given: Any) -> Any:
        encoded.append(len(given[0].train))
        return encode_rows(*given)

    monkeypatch.setattr(context, "load_rows", load)
    monkeypatch.setattr(context, "encode_rows", encode)
    jobs = [job("a"), job("b", limit=24), job("c", "bitfit"), job("d", "bitfit", limit=24)]
    lines: list[str] = []

    results = run(jobs, progress=lines.append)

    assert [result.job.folder.name for result in results] == ["a", "b", "c", "d"]
    assert not any(result.failed for result in results)
    assert encoded == [16, 24]
    assert loaded == [16, 24, 16, 24]  # first to count all steps: the rows of two sources may not fit the memory
    assert [record(result.job.folder)["fingerprint"]["rows_trained"] for result in results] == [16, 24, 16, 24]
    assert [line.split()[0] for line in lines] == ["a", "c", "b", "d"]  # equal rows one after the other


def test_a_job_that_raises_ends_no_other_and_is_tried_again(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    absent = find_method("lora")
    adapter = absent.definition.adapter.model_copy(update={"target_modules": ("qkv",)})  # type: ignore[union-attr]
    absent = Entry("absent", absent.path, absent.definition.model_copy(update={"adapter": adapter}))
    jobs = [job("first"), job("second", method="lora"), job("third", seed=1)]
    jobs[1] = dataclasses.replace(jobs[1], method=absent)

    first, second, third = run(jobs, progress=lines.append)

    reason = "base of type bert: target_modules qkv match no linear layer; its linear layers end in dense"
    assert not first.failed and not third.failed
    assert second.failed and second.outcome is None and second.reason.startswith(reason)
    assert f"second: failed: {second.reason}" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "third"]
    tried = []
    monkeypatch.setattr(context, "try_step", lambda trial, *rest: tried.append(trial.method.name))
    monkeypatch.setattr(checkpoints, "run_trial", fail)
    assert [result.reason for result in run(jobs)] == ["", "ValueError: no", ""]
    assert tried == ["absent"]


def fail(*given: Any) -> Any:
    raise ValueError("no")


def test_a_job_without_a_finite_loss_is_recorded_with_its_reason(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run_trial = checkpoints.run_trial

    def diverge(*given: Any) -> Any:
        model, result = run_trial(*given)
        return model, dataclasses.replace(result, failed=given[0].method.name == "full")

    monkeypatch.setattr(checkpoints, "run_trial", diverge)
    jobs = [job("a"), job("b", "bitfit")]

    results = run(jobs)

    reason = "the loss was not finite at any learning rate (1e-4)"
    assert [result.reason for result in results] == [reason, ""]
    assert record(jobs[0].folder)["reason"] == reason
    monkeypatch.setattr(checkpoints, "run_trial", fail)
    assert [result.reason for result in run(jobs)] == [reason, ""]


def test_a_folder_with_other_settings_fails_its_job_alone(job: Make) -> None:
    run([job("a")])

    results = run([job("a", limit=24), job("b")])

    assert [result.failed for result in results] == [True, False]
    assert "a: holds a checkpoint trained otherwise (rows_digest: " in results[0].reason
    assert ", rows_trained: 16 there, 24 asked for)" in results[0].reason


def test_a_checkpoint_that_a_lost_worker_has_finished_is_not_trained_again(
    job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("a")
    (expected,) = run([made])
    monkeypatch.setattr(checkpoints, "run_trial", fail)
    shared = context.TrainingContext(torch.device("cpu"))

    told = list(TrainingBench(shared).compute(Assignment(made, shared.fingerprint(made), None, 1.0)))

    assert told == [1.0, expected]


def test_of_two_processes_with_one_checkpoint_the_later_takes_that_of_the_first(
    job: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = job("first")
    run([first])
    run_trial = checkpoints.run_trial

    def overtaken(*given: Any) -> Any:
        shutil.copytree(first.folder, tmp_path / "a")
        return run_trial(*given)

    monkeypatch.setattr(checkpoints, "run_trial", overtaken)

    (result,) = run([job("a")])

    assert not result.failed and record(result.job.folder) == record(first.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "first"]


def test_two_jobs_cannot_share_a_folder(job: Make) -> None:
    with pytest.raises(UsageError, match="two jobs have the folder .*/a; each needs its own"):
        run([job("a"), job("a", "lora")])


def test_a_job_is_the_same_in_another_process(job: Make) -> None:
    for method in ("full", "adalora", "prefix", "mpc-o", "ssb"):
        made = job("a", method)
        assert pickle.loads(pickle.dumps(made)) == made


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that a device has room for some rows of a batch in training, after some batches with room for all."""

    def limit(rows: int, after: int = 0) -> None:
        seen = []

        def refuse(model: Any, _inputs: Any, named: dict[str, Any]) -> None:
            if model.training:
                seen.append(len(named["input_ids"]))
            if model.training and seen[-1] > rows and len(seen) > after:
                raise torch.OutOfMemoryError("CUDA out of memory")

        def limited(*given: Any, **named: Any) -> Any:
            model = adapt(*given, **named)
            model.register_forward_pre_hook(refuse, with_kwargs=True)
            return model

        monkeypatch.setattr(trainer, "adapt", limited)

    return limit


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("after", [0, 2])
def test_memory_that_runs_out_halves_the_batch_as_if_it_had_been_asked_for(
    job: Make, memory: Callable[..., None], method: str, after: int
) -> None:
    """Found by the first step, or in the middle of a training."""
    lines: list[str] = []
    asked = job("asked", method, settings=dataclasses.replace(SETTINGS, accumulation=4))
    run([asked])
    memory(2, after)

    (result,) = run([job("halved", method)], progress=lines.append)

    expected, found = weights(asked.folder), weights(result.job.folder)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert found.keys() == expected.keys()
    made = record(result.job.folder)
    assert (made["accumulation"], made["fingerprint"]["settings"]["accumulation"]) == (4, 1)
    assert any("memory runs out with 8 rows at once; again from the start with 4" in line for line in lines)
    assert any("memory runs out with 4 rows at once; again from the start with 2" in line for line in lines)


def test_memory_without_room_for_one_row_ends_the_job_with_a_remedy(job: Make, memory: Callable[..., None]) -> None:
    memory(0)

    (result,) = run([job("a")])

    assert result.reason == (
        "memory runs out even if a batch is run in 8 parts of one row: CUDA out of memory; use --checkpointing, a "
        "smaller base, shorter texts, or a device with more memory"
    )


def test_a_time_is_expected_from_a_hundredth_of_the_work_on(tmp_path: Path) -> None:
    told: list[Progress] = []
    meter = Meter(told.append, iter([0.0, 60.0, 60.0]).__next__)
    meter.add(tmp_path, steps=1000, cost=5.0)

    meter.take(tmp_path, "full seed 0", 0.009)
    meter.take(tmp_path, "full seed 0", 0.01)

    assert [each.seconds_left for each in told] == [None, pytest.approx(60 * 99)]


def test_the_steps_of_other_rows_are_counted_before_the_first_training(
    job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "TELL_SECONDS", 0.0)
    told: list[Progress] = []

    run([job("a"), job("b", limit=24)], on_steps=told.append)

    # Batches of 8: two of the first rows, three of the others.
    assert [(each.done, each.total) for each in told] == [(step, 5) for step in range(1, 6)]


def test_the_steps_of_all_trainings_add_up_to_the_whole(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "TELL_SECONDS", 0.0)
    wide = dataclasses.replace(SETTINGS, epochs=2, grid="shipped")
    told: list[Progress] = []

    run([job("there")])
    run([job("there"), job("a"), job("b", "bitfit", settings=wide)], on_steps=told.append)

    steps = 2 + 2 * 2 * len(find_method("bitfit").definition.learning_rates)
    assert [each.done for each in told] == list(range(1, steps + 1))
    assert {each.total for each in told} == {steps}
    assert [each.message for each in told[1:3]] == ["training full seed 0", "training bitfit seed 0"]
    assert told[-1].seconds_left == 0
