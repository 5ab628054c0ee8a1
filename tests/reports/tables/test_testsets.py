"""testsets.csv from planted rows: contrast sets, consistency, and the three scores of altered questions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robustness.reports.comparisons.originals import implausible_originals
from robustness.reports.tables.examples import build_examples
from robustness.reports.tables.testsets import build_testsets
from robustness.runs.storage.record import CheckpointRecord, PairRecord, RunRecord, TestsetRecord

Row = dict[str, object]
LABELS = [0, 1] * 30
NAMES = ("negative", "positive")
"""Of sixty changed rows; each original has the other label."""


def make_record(*, answers: bool = False, provenance: str = "own") -> RunRecord:
    task = "squad" if answers else "sst2"
    checkpoints = tuple(
        CheckpointRecord(
            name=name,
            adaptation=adaptation,
            task=task,
            base="base",
            train_seed=0,
            weights_digest="",
            clean_accuracy=0.9,
            majority_share=0.5,
            n_clean=10,
            merge_difference=None,
        )
        for name, adaptation in (("f", "full"), ("l", "lora"))
    )
    testset = TestsetRecord(
        name="t", task=task, kind="adversarial", provenance=provenance, n=60, n_used=60, digest="",
        scores_f1=False, answers=answers, labels=() if answers else tuple(NAMES),
    )  # fmt: skip
    pair = PairRecord(name="p", task=task, base="base", reference="f", candidate="l", seed=0)
    return RunRecord(
        suite="test", seed=0, limit=None, device="cpu", dtype="float32", fingerprint={}, pairs=(pair,),
        checkpoints=checkpoints, testsets=(testset,), attacks=(), warnings=(), started="", machine="", versions={},
    )  # fmt: skip


def static_row(checkpoint: str, index: int, **values: object) -> Row:
    return {
        "checkpoint": checkpoint, "testset": "t", "attack": "none", "example_id": f"e{index:03}",
        "group_id": f"e{index:03}", "gold": "positive", "status": "failed", "clean_correct": None,
        "correct": 1, "response": "positive", "clean_quality": None, "quality": 0.9, "original_text": None,
        "adversarial_text": '["a film"]',
    } | values  # fmt: skip


def contrast_rows(right_of_sixty: dict[str, int], *, with_label: bool) -> list[Row]:
    """Every changed row is answered rightly; so many originals are, by their own labels."""
    return [
        static_row(
            checkpoint,
            i,
            gold=NAMES[label],
            response=NAMES[label],
            clean_correct=(i < right) == with_label,
            original_gold=NAMES[1 - label] if with_label else None,
            original_text='["the film"]',
        )
        for checkpoint, right in right_of_sixty.items()
        for i, label in enumerate(LABELS)
    ]


def tabulate(rows: Iterable[Row], record: RunRecord) -> pd.DataFrame:
    table = build_testsets(build_examples(pd.DataFrame(rows), record), record)
    return table.set_index(["checkpoint", "metric", "aggregation"])


def test_the_originals_of_a_contrast_set_are_graded_by_their_own_labels() -> None:
    table = tabulate(contrast_rows({"f": 48, "l": 45}, with_label=True), make_record())

    assert table.loc[("f", "benign_accuracy", "mean"), "value"] == 48 / 60
    assert table.loc[("l", "benign_accuracy", "mean"), "value"] == 45 / 60
    assert table.loc[("f", "accuracy_drop", "mean"), "value"] == pytest.approx(-12 / 60)


def test_no_drop_is_reported_where_the_answers_make_the_labels_of_originals_implausible() -> None:
    record = make_record()
    rows = contrast_rows({"f": 48, "l": 45}, with_label=False)

    table = tabulate(rows, record)

    assert set(table.index.get_level_values("metric")) == {"accuracy"}
    assert implausible_originals(build_examples(pd.DataFrame(rows), record), record) == {"t"}


def test_what_a_model_that_generates_has_right_of_originals_is_reported_however_little_it_is() -> None:
    record = make_record()
    testset = record.testsets[0].model_copy(update={"labels": ()})
    rows = contrast_rows({"f": 48, "l": 45}, with_label=False)

    table = tabulate(rows, record.model_copy(update={"testsets": (testset,)}))

    assert table.loc[("f", "benign_accuracy", "mean"), "value"] == 12 / 60


@pytest.mark.parametrize("with_label", [True, False])
def test_a_drop_is_reported_where_one_checkpoint_does_as_well_as_the_commonest_label(with_label: bool) -> None:
    record = make_record()
    rows = contrast_rows({"f": 48, "l": 30}, with_label=with_label)

    table = tabulate(rows, record)

    assert ("f", "accuracy_drop", "mean") in table.index
    assert implausible_originals(build_examples(pd.DataFrame(rows), record), record) == frozenset()


def test_labels_that_the_file_gives_are_believed_and_questions_have_none() -> None:
    believed = contrast_rows({"f": 3, "l": 3}, with_label=True)
    unlabelled = contrast_rows({"f": 3, "l": 3}, with_label=False)
    questions = [row | {"gold": "positive", "clean_correct": 0} for row in unlabelled]

    for rows, record in ((believed, make_record()), (questions, make_record(answers=True))):
        assert implausible_originals(build_examples(pd.DataFrame(rows), record), record) == frozenset()


def test_a_group_is_consistent_where_all_its_rows_are_right_and_unknown_where_one_errored() -> None:
    groups = ["a", "a", "b", "b", "c", "d", "d"]
    right = [1, 1, 1, 0, 1, 1, 1]
    rows = [
        static_row("f", i, group_id=group, correct=answer)
        for i, (group, answer) in enumerate(zip(groups, right, strict=True))
    ]
    rows[6] |= {"status": "errored", "correct": None}

    row = tabulate(rows, make_record()).loc[("f", "consistency", "all-of-group")]

    assert (row["n"], row["n_errored"], row["value"]) == (3, 1, pytest.approx(2 / 3))
    interval = binomtest(2, 3).proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_rows_that_are_groups_of_their_own_have_no_consistency() -> None:
    table = tabulate([static_row("f", i) for i in range(5)], make_record())

    assert "consistency" not in table.index.get_level_values("metric")


QUESTIONS = [
    # question, F1, exact match, F1 and exact match of the original (None: the row is an original itself)
    ("a", 1.0, 1, None, None),
    ("a", 0.5, 0, 1.0, 1),
    ("a", 0.25, 0, 1.0, 1),
    ("b", 0.0, 0, None, None),  # worse than both its altered rows
    ("b", 0.8, 0, 0.0, 0),
    ("b", 1.0, 1, 0.0, 0),
    ("c", 0.6, 0, None, None),  # no altered row
    ("d", 0.4, 0, 1.0, 1),  # no original among the rows
]


def question_rows(checkpoint: str = "f") -> list[Row]:
    return [
        static_row(
            checkpoint,
            i,
            group_id=question,
            quality=f1,
            correct=exact,
            clean_quality=clean_f1,
            clean_correct=clean_exact,
            response="text",
        )
        for i, (question, f1, exact, clean_f1, clean_exact) in enumerate(QUESTIONS)
    ]


def test_altered_questions_have_three_scores_and_the_mean_over_altered_rows_comes_first() -> None:
    table = tabulate(question_rows(), make_record(answers=True))["value"]

    assert table["f", "f1", "altered"] == pytest.approx(np.mean([0.5, 0.25, 0.8, 1.0, 0.4]))
    assert table["f", "f1", "mean"] == pytest.approx(np.mean([1, 0.5, 0.25, 0, 0.8, 1, 0.6, 0.4]))
    assert table["f", "f1", "official"] == pytest.approx(np.mean([0.25, 0.8, 0.6, 0.4]))
    assert table["f", "exact_match", "altered"] == pytest.approx(1 / 5)
    assert table["f", "exact_match", "mean"] == pytest.approx(2 / 8)
    assert table["f", "exact_match", "official"] == 0.0
    assert table["f", "f1_drop", "altered"] == pytest.approx(np.mean([0.5, 0.75, -0.8, -1.0, 0.6]))
    assert table["f", "consistency", "all-of-group"] == 0.0
    assert next(name for name in table.index if name[1] == "f1") == ("f", "f1", "altered")


def test_exact_match_of_the_official_score_is_that_of_the_row_with_the_lowest_f1() -> None:
    """Words in another order: F1 is 1 without an exact match; the first of the equals counts."""
    rows = [
        static_row("f", i, group_id="a", quality=1.0, correct=exact, clean_quality=1.0, clean_correct=1)
        for i, exact in enumerate([1, 0])
    ]

    table = tabulate(rows, make_record(answers=True))["value"]

    assert table["f", "exact_match", "official"] == 1.0  # the lowest exact match of the question is 0


def test_questions_without_altered_rows_have_their_mean_alone() -> None:
    rows = [static_row("f", i, quality=0.5, correct=0) for i in range(4)]

    table = tabulate(rows, make_record(answers=True))

    assert sorted(table.index) == [("f", "exact_match", "mean"), ("f", "f1", "mean")]
