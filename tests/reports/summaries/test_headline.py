"""The headline of a pair: two facts, each by rule from rows of pairs.csv."""

from __future__ import annotations

from typing import Any

import pytest

from robustness.reports.summaries.arms import name_arms
from robustness.reports.summaries.headline import CANNOT_SAY, Headline, headline
from robustness.reports.summaries.kept import find_kept

ARMS = name_arms("full", "lora")
FRAGILE = {"verdict": "peft-more-fragile"}
EQUAL = {"verdict": "equivalent"}


@pytest.fixture
def say(planted: Any) -> Any:
    """The headline of planted rows; every test set has .9 and .8 right before the attack."""

    def said(
        *rows: dict[str, object], known: tuple[float, float] | None = None, clean: bool = True, chosen: bool = False
    ) -> Headline:
        made = [planted.row(**row) for row in rows]
        before = {"attack": "none", "metric": "accuracy", "family": "", "verdict": ""}
        values = {"reference_value": 0.9, "candidate_value": 0.8}
        names = dict.fromkeys(row["testset"] for row in made) if clean else ()
        table = planted.table(*(planted.row(testset=name, **before, **values) for name in names), *made)
        return headline(table, list(find_kept(table, known, chosen=chosen)), ARMS, 0.02)

    return said


def left(reference: float, candidate: float, **cells: object) -> dict[str, object]:
    """What an attack leaves of both arms."""
    return {"reference_value": reference, "candidate_value": candidate, **cells}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (left(0.22, 0.19), "Both collapse under swap."),
        (left(0.23, 0.21), "Neither collapses under swap."),
        (left(0.7, 0.65), "Both hold up under swap."),
        (left(0.67, 0.65), "Neither collapses under swap."),
        (left(0.5, 0.1, **FRAGILE), "LoRA alone collapses under swap."),
        (left(0.1, 0.5, verdict="full-more-fragile"), "Full fine-tuning alone collapses under swap."),
        (left(0.5, 0.1, verdict="less-accurate"), "LoRA alone collapses under swap."),
        (left(0.3, 0.1), "At least one collapses under swap."),
        (left(0.225, 0.19, **EQUAL), "Both collapse under swap."),
        (left(0.24, 0.195, **EQUAL), "Neither collapses under swap."),
    ],
)
def test_an_arm_collapses_that_keeps_less_than_a_quarter_of_its_clean_accuracy(
    say: Any, row: dict[str, object], words: str
) -> None:
    assert say(row).collapse == words


def test_the_worst_case_over_several_attacks_is_the_strongest_and_else_the_one_that_leaves_least(say: Any) -> None:
    pooled = say(left(0.3, 0.3), left(0.1, 0.1, attack="zap"), left(0.05, 0.05, attack="worst-case"))
    apart = say(left(0.3, 0.3), left(0.1, 0.1, attack="zap"))

    assert pooled.collapse == apart.collapse == "Both collapse under attack."


def test_several_test_sets_are_counted(say: Any) -> None:
    every = say(*(left(0.1, 0.1, testset=name) for name in "abc"))
    none = say(left(0.5, 0.5, testset="a"), left(0.9, 0.8, testset="b"))
    mixed = say(
        left(0.1, 0.1, testset="a"), left(0.5, 0.1, testset="b", **FRAGILE), left(0.3, 0.1, testset="c"),
        left(0.5, 0.5, testset="d"),
    )  # fmt: skip

    assert every.collapse == "Both collapse on all 3 test sets."
    assert say(left(0.7, 0.7, testset="a"), left(0.9, 0.8, testset="b")).collapse == "Both hold up on both test sets."
    assert none.collapse == "Neither collapses on any of 2 test sets."
    assert mixed.collapse == ("Both collapse on 1 of 4 test sets, at least one on 1 and LoRA alone on 1.")


def test_an_adversarial_test_set_is_held_against_clean_accuracy_before_the_run(say: Any) -> None:
    rows = left(0.2, 0.2, attack="none", metric="accuracy")

    assert say(rows, known=(0.9, 0.9), clean=False).collapse == "Both collapse on set."
    assert say(rows, clean=False).collapse == ""


def test_arms_that_have_nothing_right_before_an_attack_do_not_collapse(say: Any) -> None:
    rows = left(0.0, 0.0, attack="none", metric="accuracy")
    two = [left(0.0, 0.0, testset=name, attack="none", metric="accuracy") for name in "ab"]

    words = "Both have hardly anything right on set without an attack."
    assert say(rows, known=(0.0, 0.05), clean=False).collapse == words
    assert say(rows, known=(0.0, 0.06), clean=False).collapse == "Both collapse on set."
    assert say(*two, known=(0.0, 0.0), clean=False).collapse == words.replace("set", "both test sets")


def test_where_only_rows_that_both_have_right_are_attacked_clean_accuracy_is_1(say: Any) -> None:
    rate = {"metric": "attack_success_rate", "population": "both_correct", "family": "secondary", "verdict": ""}

    assert say(left(0.24, 0.24), rate, known=(0.9, 0.9), chosen=True).collapse == "Both collapse under swap."
    assert say(left(0.24, 0.24), rate, known=(0.9, 0.9)).collapse == "Neither collapses under swap."


def test_the_difference_does_not_repeat_the_collapse(say: Any) -> None:
    said = say(left(0.02, 0.01, reason="floor"))

    assert (said.collapse, said.difference) == ("Both collapse under swap.", CANNOT_SAY)
    assert str(said) == "Both collapse under swap. Which of the two is weaker, this run cannot say."


def test_without_a_planned_comparison_there_is_one_sentence(say: Any) -> None:
    assert str(say({"family": ""})).startswith("No attack and no adversarial test set")
    assert str(say()) == "Nothing has been compared yet."
