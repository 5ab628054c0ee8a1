from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import DataCollatorWithPadding

from robustness.training import callbacks, trainer
from robustness.training.adaptation import Base
from robustness.training.examples.encoding import encode_rows
from robustness.training.examples.loading import load_rows
from robustness.training.examples.rows import EncodedRows
from robustness.training.methods import find_method
from robustness.training.protocol import TrainingSettings
from robustness.training.trainer import Trial, TrialResult, run_trial

SETTINGS = TrainingSettings(epochs=2, batch_size=8, max_tokens=16)


@pytest.fixture(scope="module")
def rows(testset: str, data: Path, tiny_base: Path) -> EncodedRows:
    return encode_rows(load_rows(testset, data, 24, 16), tiny_base, 16)


@pytest.fixture
def base(tiny_base: Path) -> Base:
    return Base(tiny_base, str(tiny_base))


def _trial(method: str, learning_rate: float = 1e-3, seed: int = 0) -> Trial:
    return Trial(find_method(method), learning_rate, seed, SETTINGS, torch.device("cpu"))


def _ignore(epoch: int, accuracy: float) -> None: ...


def _batches(monkeypatch: pytest.MonkeyPatch, trial: Trial, base: Base, rows: EncodedRows) -> list[str]:
    """The token ids of every training batch in order; development batches are larger."""
    seen = []

    class Recording(DataCollatorWithPadding):
        def __call__(self, features: list[dict[str, list[int]]]) -> object:
            batch = super().__call__(features)
            if len(features) <= SETTINGS.batch_size:
                seen.append(str(batch["input_ids"].tolist()))
            return batch

    monkeypatch.setattr(trainer, "DataCollatorWithPadding", Recording)
    run_trial(trial, base, rows, _ignore)
    return seen


def test_all_methods_and_rates_of_one_seed_see_the_same_batches(
    monkeypatch: pytest.MonkeyPatch, base: Base, rows: EncodedRows
) -> None:
    full = _batches(monkeypatch, _trial("full"), base, rows)
    lora = _batches(monkeypatch, _trial("lora", learning_rate=5e-3), base, rows)

    assert len(full) == 6
    assert full == lora


def test_no_two_epochs_of_neighbouring_seeds_share_an_order(
    monkeypatch: pytest.MonkeyPatch, base: Base, rows: EncodedRows
) -> None:
    first = _batches(monkeypatch, _trial("full", seed=0), base, rows)
    second = _batches(monkeypatch, _trial("full", seed=1), base, rows)

    epochs = {tuple(batches[start : start + 3]) for batches in (first, second) for start in (0, 3)}
    assert len(epochs) == 4


@pytest.mark.parametrize("method", ["full", "lora"])
def test_one_seed_gives_identical_weights_and_leaves_the_random_state(
    method: str, base: Base, rows: EncodedRows
) -> None:
    before = torch.random.get_rng_state()
    first, _ = run_trial(_trial(method), base, rows, _ignore)
    between = torch.random.get_rng_state()
    torch.rand(3)
    second, _ = run_trial(_trial(method), base, rows, _ignore)

    assert torch.equal(before, between)
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())


def test_nothing_is_printed_and_every_epoch_is_reported(
    base: Base, rows: EncodedRows, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = []

    _, result = run_trial(_trial("lora"), base, rows, lambda *epoch: reported.append(epoch))

    assert reported == list(enumerate(result.selecting_scores, start=1))
    assert capsys.readouterr().out == ""


def test_the_weights_returned_are_those_of_the_best_epoch(
    monkeypatch: pytest.MonkeyPatch, base: Base, rows: EncodedRows
) -> None:
    """Accuracies are made up so that the first epoch wins; one epoch of the same schedule is the reference."""
    accuracies = iter([0.9, 0.4])
    weights = []

    def fall(evaluated: object) -> dict[str, float]:
        return {"score": next(accuracies)}

    def remember(args: object, state: object, control: object, **given: object) -> None:
        weights.append([p.detach().clone() for _, p in callbacks.trained(given["model"])])

    monkeypatch.setattr(trainer, "_accuracy", fall)
    monkeypatch.setattr(callbacks.EpochKeeper, "on_epoch_end", staticmethod(remember))
    model, result = run_trial(_trial("full"), base, rows, _ignore)

    kept = [p for _, p in callbacks.trained(model)]
    assert result.best_epoch == 1
    assert all(torch.equal(a, b) for a, b in zip(kept, weights[0], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(kept, weights[1], strict=True))


def test_ranks_are_allocated_after_every_optimiser_step(
    monkeypatch: pytest.MonkeyPatch, base: Base, rows: EncodedRows
) -> None:
    from peft import AdaLoraModel

    allocate = AdaLoraModel.update_and_allocate
    seen = []
    accuracies = iter([0.4, 0.9])  # made up: ranks are cut in the second epoch
    monkeypatch.setattr(trainer, "_accuracy", lambda evaluated: {"score": next(accuracies)})

    def record(model: AdaLoraModel, step: int) -> None:
        assert all(p.grad is not None for name, p in model.named_parameters() if "lora_A" in name)
        seen.append(step)
        allocate(model, step)

    monkeypatch.setattr(AdaLoraModel, "update_and_allocate", record)
    model, _ = run_trial(_trial("adalora"), base, rows, _ignore)

    ranks = [int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name]
    assert seen == list(range(6))
    assert sum(ranks) == 8 * len(ranks) < 12 * len(ranks)


def test_an_epoch_before_ranks_were_cut_is_restored_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch, base: Base, rows: EncodedRows
) -> None:
    """Accuracies are made up so that the first of two epochs wins: ranks are cut in the second."""
    accuracies = iter([0.9, 0.4])
    monkeypatch.setattr(trainer, "_accuracy", lambda evaluated: {"score": next(accuracies)})

    model, result = run_trial(_trial("adalora"), base, rows, _ignore)

    pattern = model.peft_config["default"].rank_pattern
    assert result.best_epoch == 1
    assert [sum(kept) for kept in pattern.values()] == [12] * 4


def test_a_batch_in_two_parts_gives_the_weights_of_the_whole(base: Base, rows: EncodedRows) -> None:
    """Without dropout, whose draws a division changes."""
    weights = []
    for parts in (1, 2):
        settings = TrainingSettings(epochs=1, batch_size=8, max_tokens=16, accumulation=parts)
        trial = Trial(find_method("full"), 1e-3, 0, settings, torch.device("cpu"))
        weights.append(run_trial(trial, _without_dropout(base), rows, _ignore)[0].state_dict())

    for name, whole in weights[0].items():
        torch.testing.assert_close(weights[1][name], whole, atol=2e-5, rtol=0, msg=name)


def _without_dropout(base: Base) -> Base:
    folder = base.folder.with_name(base.folder.name + "-without-dropout")
    if not folder.exists():
        shutil.copytree(base.folder, folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Base(folder, str(folder))


def test_a_number_of_steps_ends_a_trial_with_a_score(base: Base, rows: EncodedRows) -> None:
    settings = TrainingSettings(batch_size=8, max_tokens=16, max_steps=2)

    _, result = run_trial(Trial(find_method("full"), 1e-3, 0, settings, torch.device("cpu")), base, rows, _ignore)

    assert len(result.selecting_scores) == 1


def test_of_equal_epochs_the_earlier_is_best() -> None:
    result = TrialResult(
        1e-3, (0.5, 0.8, 0.8), (1.0,) * 3, False, parameters_trained=1, parameters=2, seconds=0.0, peak_memory_bytes=0
    )

    assert (result.best_epoch, result.selecting_score) == (2, 0.8)


def test_a_loss_that_is_not_finite_fails_the_trial_and_stops_it(base: Base, rows: EncodedRows) -> None:
    result = run_trial(_trial("full", learning_rate=1e30), base, rows, _ignore)[1]

    assert result.failed
    assert len(result.selecting_scores) == 1
