from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustness.definitions.tasks import find_task
from robustness.tasks.gold import GoldSpan
from robustness.testsets.example import Example
from robustness.training import training
from robustness.training.adaptation import Base
from robustness.training.examples.rows import TrainingRows
from robustness.training.metrics import Metric
from robustness.training.pairing import Arm, Pairing, closest_epochs, pair_arms
from robustness.training.protocol import TrainingSettings

accuracies = st.lists(st.sampled_from([0.4, 0.5, 0.6, 0.7, 0.8, 0.9]), min_size=1, max_size=5)


def test_of_equal_gaps_the_highest_accuracy_then_the_earliest_epoch_is_taken() -> None:
    assert closest_epochs([0.7, 0.9, 0.9], [0.7, 0.9], floor=0.5) == (2, 2)


def test_epochs_that_have_not_learnt_the_task_do_not_count() -> None:
    assert closest_epochs([0.5, 0.9], [0.5, 0.7], floor=0.5) == (2, 2)
    assert closest_epochs([0.9], [0.5, 0.4], floor=0.5) is None


@given(accuracies, accuracies)
def test_no_other_two_epochs_above_the_floor_are_closer(full: list[float], peft: list[float]) -> None:
    found = closest_epochs(full, peft, floor=0.5)

    gaps = [abs(a - b) for a in full for b in peft if a > 0.5 and b > 0.5]
    assert (found is None) == (not gaps)
    if found is not None:
        assert abs(full[found[0] - 1] - peft[found[1] - 1]) == pytest.approx(min(gaps))


@given(accuracies, accuracies)
def test_swapping_the_arms_swaps_accuracies(full: list[float], peft: list[float]) -> None:
    found, swapped = closest_epochs(full, peft, 0.5), closest_epochs(peft, full, 0.5)

    if found is None or swapped is None:
        assert found is swapped
    else:
        gap = abs(full[found[0] - 1] - peft[found[1] - 1])
        assert abs(peft[swapped[0] - 1] - full[swapped[1] - 1]) == pytest.approx(gap)


def test_a_pair_is_made_for_each_seed_of_two_arms_that_did_not_fail(tmp_path: Path) -> None:
    lines: list[str] = []
    good, failed = (0.8, 0.9), ()
    arms = [
        _arm(tmp_path, name, seed, failed if (name, seed) in bad else good)
        for bad in [{("lora", 1), ("full", 2)}]
        for seed in (0, 1, 2)
        for name in ("full", "lora", "ia3")
    ]

    entries = pair_arms(
        arms, Pairing("sst2", Base(tmp_path, "owner/base"), tmp_path, None, Metric.ACCURACY, lines.append)
    )

    assert [(entry.full, entry.peft, entry.seed) for entry in entries] == [
        ("t-full-seed0", "t-lora-seed0", 0),
        ("t-full-seed0", "t-ia3-seed0", 0),
        ("t-full-seed1", "t-ia3-seed1", 1),
    ]
    assert [line.partition(":")[0] for line in lines] == ["t-lora-seed1", "t-lora-seed2", "t-ia3-seed2"]


def _arm(folder: Path, name: str, seed: int = 0, scores: tuple[float, ...] = (0.8, 0.9)) -> Arm:
    plain = name.partition("+")[0]
    return Arm(folder / f"t-{name.replace('+', '-')}-seed{seed}", seed, name, plain, plain != "full", scores)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["full", "lora", "lora+freelb"],
            [
                ("full", "t-full-seed0", "t-lora-seed0", "t-lora-seed0"),
                ("full", "t-full-seed0", "t-lora-freelb-seed0", "t-lora-freelb-seed0"),
                ("", "t-lora-seed0", "t-lora-freelb-seed0", "t-lora-freelb-seed0-against-lora"),
            ],
        ),
        (["full+freelb", "full"], [("", "t-full-seed0", "t-full-freelb-seed0", "t-full-freelb-seed0")]),
        (
            ["full+freelb", "lora+freelb"],
            [("full", "t-full-freelb-seed0", "t-lora-freelb-seed0", "t-lora-freelb-seed0")],
        ),
        (["lora", "lora+freelb"], [("", "t-lora-seed0", "t-lora-freelb-seed0", "t-lora-freelb-seed0-against-lora")]),
    ],
)
def test_what_is_added_to_a_training_is_compared_with_full_and_with_the_same_method_without(
    names: list[str], expected: list[tuple[str, str, str, str]], tmp_path: Path
) -> None:
    pairing = Pairing("sst2", Base(tmp_path, "owner/base"), tmp_path, None, Metric.ACCURACY, print)

    entries = pair_arms([_arm(tmp_path, name) for name in names], pairing)

    assert [("full" if each.is_headline else "", *each.arms, each.name) for each in entries] == expected


def test_epochs_of_questions_count_above_the_score_of_the_whole_paragraph() -> None:
    answered = Example("q", ("Who won?", "Denver won the game."), 1, answers=(GoldSpan("Denver", 0),))
    rows = TrainingRows("mine", find_task("squad"), (answered,), (answered, answered), (answered,), "", "")

    floor = training._floor(rows, TrainingSettings(match="clean"))

    assert floor == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))  # one of its three words, without the article, is right
    assert training._floor(rows, TrainingSettings()) is None
