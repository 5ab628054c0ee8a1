from __future__ import annotations

import math
from dataclasses import fields, replace
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from robustness.stats import (
    AdvGlueScores,
    AttackCounts,
    accuracy,
    advglue_macro,
    binary_f1,
)

STATUSES = ["skipped", "succeeded", "failed", "errored"]
label_pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)
outcomes = st.lists(st.booleans(), min_size=1, max_size=40)


class Status(StrEnum):
    SKIPPED = "skipped"
    SUCCEEDED = "succeeded"


def test_attack_counts_count_each_status() -> None:
    counts = AttackCounts.of(["failed", "failed", "errored", "skipped", "failed", "succeeded", "succeeded"])

    assert counts == AttackCounts(skipped=1, succeeded=2, failed=3, errored=1)
    assert (counts.n, counts.n_judged) == (7, 6)


def test_attack_counts_take_members_of_a_string_enum() -> None:
    assert AttackCounts.of([Status.SKIPPED, Status.SUCCEEDED]) == AttackCounts(1, 1, 0, 0)


def test_attack_counts_refuse_an_unknown_status() -> None:
    with pytest.raises(ValueError, match="got broken"):
        AttackCounts.of(["failed", "broken"])


@given(st.lists(st.sampled_from(STATUSES), max_size=60))
def test_the_rates_of_attack_counts_are_means_of_the_judged_examples(statuses: list[str]) -> None:
    judged = [status for status in statuses if status != "errored"]
    attacked = [status for status in judged if status != "skipped"]

    counts = AttackCounts.of(statuses)

    assert (counts.n, counts.n_judged) == (len(statuses), len(judged))
    if judged:
        assert counts.clean_accuracy == pytest.approx(np.mean([s != "skipped" for s in judged]))
        assert counts.robust_accuracy == pytest.approx(np.mean([s == "failed" for s in judged]))
    if attacked:
        assert counts.attack_success_rate == pytest.approx(np.mean([s == "succeeded" for s in attacked]))


@given(st.builds(AttackCounts, *[st.integers(0, 1000)] * 4))
def test_robust_accuracy_lies_between_zero_and_clean_accuracy(counts: AttackCounts) -> None:
    if counts.n_judged:
        assert 0 <= counts.robust_accuracy <= counts.clean_accuracy <= 1
    if counts.n_judged > counts.skipped:
        assert counts.robust_accuracy == pytest.approx(counts.clean_accuracy * (1 - counts.attack_success_rate))


def test_rates_over_nothing_are_nan() -> None:
    only_errored, only_skipped = AttackCounts(0, 0, 0, 3), AttackCounts(3, 0, 0, 0)

    assert math.isnan(only_errored.clean_accuracy)
    assert math.isnan(only_errored.robust_accuracy)
    assert math.isnan(only_skipped.attack_success_rate)
    assert (only_skipped.clean_accuracy, only_skipped.robust_accuracy) == (0, 0)


@given(outcomes)
def test_accuracy_agrees_with_scikit_learn(correct: list[bool]) -> None:
    assert accuracy(correct) == pytest.approx(accuracy_score([True] * len(correct), correct))


def test_accuracy_of_nothing_is_nan() -> None:
    assert math.isnan(accuracy([]))


@given(pairs=label_pairs, positive=st.integers(0, 2))
def test_f1_agrees_with_scikit_learn(pairs: list[tuple[int, int]], positive: int) -> None:
    labels, predictions = [a for a, _ in pairs], [b for _, b in pairs]

    found = binary_f1(labels, predictions, positive=positive)

    reference = f1_score(labels, predictions, labels=[positive], average="macro", zero_division=0.0)
    assert found == pytest.approx(reference)


def test_f1_without_a_positive_or_without_rows_is_zero() -> None:
    assert binary_f1([0, 0], [0, 0]) == 0
    assert binary_f1([], []) == 0


def test_f1_refuses_columns_of_different_length() -> None:
    with pytest.raises(ValueError, match="one shape"):
        binary_f1([0, 1], [1])


def test_the_advglue_macro_weighs_five_tasks_equally_with_two_halves_each_for_qqp_and_mnli() -> None:
    zero = AdvGlueScores(0, 0, 0, 0, 0, 0, 0)

    weights = {field.name: advglue_macro(replace(zero, **{field.name: 10.0})) for field in fields(zero)}

    assert weights == pytest.approx(
        {"sst2": 2, "qqp_accuracy": 1, "qqp_f1": 1, "mnli": 1, "mnli_mm": 1, "qnli": 2, "rte": 2}
    )


def test_the_advglue_macro_of_the_papers_bert_large_row_is_its_average() -> None:
    bert_large = AdvGlueScores(
        sst2=33.03, qqp_accuracy=37.91, qqp_f1=16.56, mnli=28.72, mnli_mm=27.05, qnli=39.77, rte=40.46
    )

    assert advglue_macro(bert_large) == pytest.approx(33.68, abs=0.01)


def test_the_advglue_macro_of_an_incomplete_row_is_nan() -> None:
    assert math.isnan(advglue_macro(AdvGlueScores(1, 1, 1, 1, 1, 1, math.nan)))
