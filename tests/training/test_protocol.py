from __future__ import annotations

from typing import Any

import pytest

from robustness.errors import UsageError
from robustness.training.methods import find_method, method_names
from robustness.training.protocol import TrainingSettings, under_protocol, widen

PAPER = TrainingSettings(protocol="paper")


def test_no_warmup_share_is_no_warmup_step() -> None:
    assert TrainingSettings(warmup_share=0.0).warmup_steps(1000) == 0


def test_a_last_batch_that_is_not_full_counts_as_a_step() -> None:
    assert TrainingSettings(epochs=1, batch_size=10, warmup_share=1.0).warmup_steps(11) == 2


def test_a_number_of_steps_takes_the_place_of_epochs() -> None:
    assert TrainingSettings(epochs=7, max_steps=30, warmup_share=0.1).steps(1000) == 30
    assert TrainingSettings(epochs=7, max_steps=30, warmup_share=0.1).warmup_steps(1000) == 3


def test_equal_treatment_leaves_method_and_settings_as_they_are() -> None:
    method, settings = find_method("prefix"), TrainingSettings()

    assert under_protocol(method, "sst2", settings) == (method, settings)


def test_a_wide_grid_has_one_rate_more_at_either_end_and_is_another_method() -> None:
    method, settings = under_protocol(find_method("lora"), "sst2", TrainingSettings(grid="wide"))

    assert find_method("lora").definition.learning_rates == (5e-4, 2e-3)
    assert method.definition.learning_rates == (1.25e-4, 5e-4, 2e-3, 8e-3)
    assert method.digest != find_method("lora").digest and settings.grid == "wide"


@pytest.mark.parametrize("name", method_names())
def test_every_methods_wide_grid_goes_on_at_its_own_step(name: str) -> None:
    rates = widen(find_method(name).definition.learning_rates)

    assert len(rates) == 4
    assert rates[1] / rates[0] == pytest.approx(rates[2] / rates[1], rel=0.01)
    assert rates[3] / rates[2] == pytest.approx(rates[2] / rates[1], rel=0.01)


def test_a_single_rate_is_widened_on_both_sides() -> None:
    assert widen((1e-3,)) == (2.5e-4, 1e-3, 4e-3)


def test_the_studys_rates_are_not_widened() -> None:
    with pytest.raises(UsageError, match="--grid wide: --protocol paper"):
        TrainingSettings(grid="wide", protocol="paper")


def test_the_study_trained_prefix_tuning_on_sst2_with_its_own_settings() -> None:
    """The row of the study's scripts, arXiv 2505.22355."""
    method, settings = under_protocol(find_method("prefix"), "sst2", PAPER)

    assert method.definition.learning_rates == (1e-2,)
    assert (settings.batch_size, settings.epochs, settings.warmup_share) == (32, 50, 0.06)
    assert settings.max_grad_norm == 0


def test_the_study_trained_adalora_with_another_dropout() -> None:
    method, settings = under_protocol(find_method("adalora"), "qnli", PAPER)

    assert method.definition.adapter is not None and method.definition.adapter.peft_type == "adalora"
    assert (method.definition.adapter.dropout, method.definition.adapter.initial_rank) == (0.1, 12)
    assert (method.definition.learning_rates, settings.batch_size, settings.epochs) == ((1e-4,), 16, 60)
    assert method.digest != find_method("adalora").digest


def test_what_the_study_did_not_train_is_refused_with_the_tasks_it_did() -> None:
    with pytest.raises(UsageError, match="for prefix on rte are not known; .* known on sst2, qnli"):
        under_protocol(find_method("prefix"), "rte", PAPER)
    with pytest.raises(UsageError, match="known on no task"):
        under_protocol(find_method("ssb"), "sst2", PAPER)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"warmup_share": 1.5},
        {"max_grad_norm": float("inf")},
        {"max_steps": 0},
        {"protocol": "papers"},
        {"match": "dirty"},
        {"accumulation": 3},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    name = "batch_size 16 cannot be run in 3" if "accumulation" in wrong else next(iter(wrong))

    with pytest.raises(UsageError, match=name):
        TrainingSettings(**wrong)
