"""The rows of one task, chosen once for all methods and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robustness.definitions.catalog import TESTSETS
from robustness.errors import DataError, UsageError, shorten
from robustness.tasks.graders import grader_for
from robustness.tasks.task import Task
from robustness.testsets.example import Example
from robustness.testsets.halves import halve
from robustness.testsets.loading import load_testset, load_training_split
from robustness.training.examples.augmentation import read_augmented
from robustness.training.examples.digests import digest_examples
from robustness.training.examples.encoding import FORMS
from robustness.training.examples.rows import TrainingRows

SUBSET_SEED = 0
"""Seed of the training rows that a limit keeps, equal for all checkpoints."""


def load_rows(
    testset: str,
    data: Path | None,
    limit: int | None,
    dev_limit: int | None = None,
    report_limit: int | None = None,
    augmented: Path | None = None,
) -> TrainingRows:
    """Loads the training split of a clean test set and the two halves of its development rows.

    Args:
        testset: a clean test set.
        data: the folder with local files.
        limit: maximum of training rows.
        dev_limit: maximum of selecting rows; None: the default.
        report_limit: maximum of reporting rows; None: the default.
        augmented: a file of changed forms of the training rows kept, which follow them.

    Raises:
        DefinitionError: no test set has that name.
        UsageError: the test set has no training split.
        DataError: the rows cannot be read, all of them have one label, development rows are training rows too, or
            they cannot be halved.
    """
    entry = TESTSETS.find(testset)
    if entry.definition.train is None:
        raise UsageError(f"train {testset}: it has no training split; expected one of {', '.join(trainable())}")
    train = load_training_split(entry, data)
    dev = load_testset(entry, data)
    _refuse_overlap(entry.name, train.examples, dev.examples)
    halves = halve(dev.examples)
    if not halves.selecting:
        raise DataError(
            f"train {testset}: its {len(dev.examples)} development rows are one group; expected two groups or more: "
            "one half of the rows selects checkpoints, the other reports their scores"
        )
    form = FORMS[train.task.kind]
    drawn, selecting = draw(train.examples, limit), spread(halves.selecting, dev_limit or form.dev_rows)
    _refuse_one_label(entry.name, train.task, "training", drawn, train.examples)
    _refuse_one_label(entry.name, train.task, "selecting development", selecting, dev.examples)
    changed, augmented_digest = read_augmented(augmented, drawn) if augmented else ((), "")
    used, reporting = (*drawn, *changed), spread(halves.reporting, report_limit or form.report_rows)
    return TrainingRows(
        testset=entry.name,
        task=train.task,
        train=used,
        selecting=selecting,
        reporting=reporting,
        train_digest=train.digest,
        dev_digest=dev.digest,
        augmented_digest=augmented_digest,
        rows_digest=digest_examples((used, selecting, reporting)),
    )


def _refuse_overlap(testset: str, train: Sequence[Example], dev: Sequence[Example]) -> None:
    """Rows with equal texts (except surrounding space) and any labels."""
    known = {tuple(text.strip() for text in example.texts) for example in train}
    shared = [example for example in dev if tuple(text.strip() for text in example.texts) in known]
    if shared:
        raise DataError(
            f"train {testset}: {len(shared)} of {len(dev)} development rows are training rows too, the first "
            f"{shared[0].id!r}: accuracy on them would reward memorising; remove them from one of the files"
        )


def _refuse_one_label(testset: str, task: Task, kind: str, used: Sequence[Example], whole: Sequence[Example]) -> None:
    noun, grader = FORMS[task.kind].gold, grader_for(task)
    golds = {grader.gold(example) for example in used}
    if not noun or len(golds) > 1:
        return
    others = len({grader.gold(example) for example in whole}) > 1
    remedy = "raise the limit: the file has others" if others else "add rows of the others"
    raise DataError(
        f"train {testset}: all {len(used)} {kind} rows have the {noun} {shorten(repr(golds.pop()))}, so there is "
        f"nothing to learn; {remedy}"
    )


def trainable() -> list[str]:
    """The shipped test sets with training rows, sorted."""
    return [name for name in TESTSETS.names() if TESTSETS.find(name).definition.train is not None]


def draw(examples: Sequence[Example], limit: int | None) -> tuple[Example, ...]:
    """Returns the first `limit` of a fixed permutation: a smaller limit gives a subset of a larger one."""
    if limit is None or limit >= len(examples):
        return tuple(examples)
    order = np.random.default_rng(SUBSET_SEED).permutation(len(examples))
    return tuple(examples[index] for index in order[:limit])


def spread(examples: Sequence[Example], limit: int) -> tuple[Example, ...]:
    """Returns at most `limit` evenly spaced examples, so that a sorted file gives all labels."""
    if limit >= len(examples):
        return tuple(examples)
    return tuple(examples[index * len(examples) // limit] for index in range(limit))
