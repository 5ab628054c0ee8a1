"""The rows of one task, chosen and encoded once for all methods and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustness.definitions.catalog import TESTSETS, Entry
from robustness.definitions.tasks import task_of_testset
from robustness.definitions.testsets import TestsetDefinition
from robustness.errors import CheckpointError, DataError, UsageError, first_line
from robustness.tasks.task import Task, TaskKind
from robustness.testsets.example import Example
from robustness.testsets.halves import halve
from robustness.testsets.loading import load_testset, load_training_split
from robustness.training.answering import LABEL_NAMES, encode_windows, f1_metric
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.inputs import NO_LIMIT, Company, empty_model
from robustness.victims.inputs import max_tokens as position_limit
from robustness.victims.padding import settle_padding_token

SUBSET_SEED = 0
"""Which training rows a limit keeps depends on nothing that differs between two checkpoints."""

EncodedRow = dict[str, Any]
"""Token ids, masks and `labels` of one row, as transformers' collator takes them."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The examples that train, and the clean ones that select a checkpoint or report what it is worth."""

    testset: str
    task: Task
    train: tuple[Example, ...]
    selecting: tuple[Example, ...]
    reporting: tuple[Example, ...]
    train_digest: str
    """sha256 over all training rows of the set, before any limit."""
    dev_digest: str
    """The same over the development set, both halves."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Development rows as token ids, with what scores them."""

    rows: tuple[EncodedRow, ...]
    metric: Callable[[Any], dict[str, float]] | None = None
    """From the trainer's predictions to a `score`; None: accuracy."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """The same rows as token ids."""

    tokenizer: Any
    task: Task
    train: tuple[EncodedRow, ...]
    selecting: ScoredRows
    reporting: ScoredRows
    label_names: tuple[str, ...] = ("labels",)


def load_rows(testset: str, data: Path | None, limit: int | None, dev_limit: int) -> TrainingRows:
    """Loads the training split of a clean test set and the two halves of the development rows beside it.

    Args:
        testset: a clean test set.
        data: the folder with local files.
        limit: at most so many training rows.
        dev_limit: at most so many rows of either half.

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
    if train.task.kind is TaskKind.TEXT:
        raise UsageError(
            f"train {testset}: models that generate text are not trained here; train both with transformers and "
            "peft, and give their folders to run with --reference and --candidate"
        )
    dev = load_testset(entry, data)
    _refuse_overlap(entry.name, train.examples, dev.examples)
    halves = halve(dev.examples)
    if not halves.selecting:
        raise DataError(
            f"train {testset}: its {len(dev.examples)} development rows are one group; expected two groups or more: "
            "one half of the rows selects checkpoints, the other reports what they are worth"
        )
    drawn, selecting = draw(train.examples, limit), spread(halves.selecting, dev_limit)
    _refuse_one_label(entry.name, train.task, "training", drawn, train.examples)
    _refuse_one_label(entry.name, train.task, "selecting development", selecting, dev.examples)
    return TrainingRows(
        testset=entry.name,
        task=train.task,
        train=drawn,
        selecting=selecting,
        reporting=spread(halves.reporting, dev_limit),
        train_digest=train.digest,
        dev_digest=dev.digest,
    )


def _refuse_overlap(testset: str, train: Sequence[Example], dev: Sequence[Example]) -> None:
    """Rows with equal texts, but for space around them, whatever their labels."""
    known = {tuple(text.strip() for text in example.texts) for example in train}
    shared = [example for example in dev if tuple(text.strip() for text in example.texts) in known]
    if shared:
        raise DataError(
            f"train {testset}: {len(shared)} of {len(dev)} development rows are training rows too, the first "
            f"{shared[0].id!r}: accuracy on them chooses what was learnt by heart; remove them from one of the files"
        )


def _refuse_one_label(testset: str, task: Task, kind: str, used: Sequence[Example], whole: Sequence[Example]) -> None:
    labels = {example.label for example in used}
    if task.kind is TaskKind.SPAN or len(labels) > 1:
        return
    others = len({example.label for example in whole}) > 1
    remedy = "raise the limit: the file has others" if others else "add rows of the others"
    raise DataError(
        f"train {testset}: all {len(used)} {kind} rows have the label {task.labels[labels.pop()]!r}, so there is "
        f"nothing to tell apart; {remedy}"
    )


def trainable() -> list[str]:
    """The shipped test sets that models are trained on, sorted."""
    entries: list[Entry[TestsetDefinition]] = [TESTSETS.find(name) for name in TESTSETS.names()]
    with_split = [entry for entry in entries if entry.definition.train is not None]
    return [each.name for each in with_split if task_of_testset(each.path, each.definition).kind is not TaskKind.TEXT]


def draw(examples: Sequence[Example], limit: int | None) -> tuple[Example, ...]:
    """Returns the first `limit` of a fixed permutation: a smaller limit gives a subset of a larger one."""
    if limit is None or limit >= len(examples):
        return tuple(examples)
    order = np.random.default_rng(SUBSET_SEED).permutation(len(examples))
    return tuple(examples[index] for index in order[:limit])


def spread(examples: Sequence[Example], limit: int) -> tuple[Example, ...]:
    """Returns at most `limit` examples, evenly spaced, so that a sorted file does not give one label alone."""
    if limit >= len(examples):
        return tuple(examples)
    return tuple(examples[index * len(examples) // limit] for index in range(limit))


def encode_rows(rows: TrainingRows, base: Path, max_tokens: int, virtual_tokens: int = 0) -> EncodedRows:
    """Tokenises with the base's tokenizer, without padding.

    Args:
        rows: the texts.
        base: the base's folder.
        max_tokens: longer texts are cut.
        virtual_tokens: positions that some method of the call needs for itself.

    Raises:
        UsageError: texts of that length and learnt tokens do not fit the base's positions together.
        CheckpointError: the base has no tokenizer, or one that cannot pad.
        DataError: rows of an encoder-decoder with its end token inside their text.
    """
    try:
        tokenizer = read_tokenizer(base)
    except Exception as error:  # transformers and tokenizers each raise kinds of their own
        raise CheckpointError(f"base {base}: its tokenizer cannot be loaded: {first_line(error)}") from error
    model = empty_model(base)
    settle_padding_token(model, tokenizer, f"base {base}")
    limit = position_limit(model, tokenizer)
    if rows.task.kind is TaskKind.SPAN:
        selecting, reporting = (
            ScoredRows(
                tuple(encode_windows(half, tokenizer, limit, answered_only=False)), f1_metric(half, tokenizer, limit)
            )
            for half in (rows.selecting, rows.reporting)
        )
        train = tuple(encode_windows(rows.train, tokenizer, limit, answered_only=True))
        return EncodedRows(tokenizer, rows.task, train, selecting, reporting, LABEL_NAMES)
    length = min(max_tokens, limit)
    room = position_limit(model, tokenizer, virtual_tokens)
    if virtual_tokens and length > room:
        raise UsageError(
            f"base {base}: {virtual_tokens} learnt tokens leave room for {max(room, 0)} tokens of text, and texts "
            f"are cut to {length} for every method; lower max_tokens to {max(room, 1)}, or virtual_tokens in the "
            "method's file"
        )
    trained, *halves = (_encode(part, tokenizer, length) for part in (rows.train, rows.selecting, rows.reporting))
    if getattr(model.config, "is_encoder_decoder", False):
        for part, encoded in zip((rows.train, rows.selecting, rows.reporting), (trained, *halves), strict=True):
            _refuse_end_tokens(rows.testset, part, encoded, model.config)
    # Scored rows by length: what is scored beside each other is then padded little.
    selecting, reporting = (ScoredRows(tuple(sorted(half, key=lambda row: len(row["input_ids"])))) for half in halves)
    return EncodedRows(tokenizer, rows.task, tuple(trained), selecting, reporting)


def _refuse_end_tokens(testset: str, examples: Sequence[Example], rows: Sequence[EncodedRow], config: Any) -> None:
    """The heads of encoder-decoders refuse a batch whose rows have the end token not equally often."""
    counts = Company(end_token=config.eos_token_id).kinds([row["input_ids"] for row in rows])
    usual = counts.min(initial=NO_LIMIT)
    for example, count in zip(examples, counts, strict=True):
        if count > usual:
            raise DataError(
                f"train {testset}: the row {example.id!r} has {count - usual} end tokens inside its text, such as "
                f"</s>, and a model of type {config.model_type} reads its answer at the end token, of which all rows "
                "of a batch must have equally many; remove it from the row"
            )


def _encode(examples: Sequence[Example], tokenizer: Any, length: int) -> list[EncodedRow]:
    segments = [list(column) for column in zip(*(example.texts for example in examples), strict=True)]
    encoded = tokenizer(*segments, truncation=True, max_length=length, padding=False)
    return [
        {key: encoded[key][index] for key in encoded} | {"labels": example.label}
        for index, example in enumerate(examples)
    ]
