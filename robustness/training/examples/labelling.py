"""Labelled texts as training rows: their tokens, and the index of the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustness.errors import DataError, UsageError
from robustness.testsets.example import Example
from robustness.training.examples.rows import EncodedRow, EncodedRows, Reader, ScoredRows, TrainingRows
from robustness.victims.inputs import NO_LIMIT, Company


def encode_labelled(rows: TrainingRows, reader: Reader) -> EncodedRows:
    """Returns the rows as token ids, without padding; rows for scoring are sorted by length, shortest first.

    Raises:
        UsageError: texts of this length and learnt tokens exceed the base's positions.
        DataError: rows of an encoder-decoder with its end token inside their text.
    """
    length = min(reader.max_tokens, reader.positions)
    room = reader.free_positions
    if length > room:
        raise UsageError(
            f"{reader.name}: {reader.virtual_tokens} learnt tokens leave room for {max(room, 0)} tokens of text, and "
            f"texts are cut to {length} for every method; lower max_tokens to {max(room, 1)}, or virtual_tokens in "
            "the method's file"
        )
    parts = rows.train, rows.selecting, rows.reporting
    trained, *halves = (_encode(part, reader.tokenizer, length) for part in parts)
    if getattr(reader.model.config, "is_encoder_decoder", False):
        for part, encoded in zip(parts, (trained, *halves), strict=True):
            _refuse_end_tokens(rows.testset, part, encoded, reader.model.config)
    # Sorts scored rows by length, so that batches are padded little.
    selecting, reporting = (ScoredRows(tuple(sorted(half, key=lambda row: len(row["input_ids"])))) for half in halves)
    return EncodedRows(reader.tokenizer, rows.task, tuple(trained), selecting, reporting)


def _refuse_end_tokens(testset: str, examples: Sequence[Example], rows: Sequence[EncodedRow], config: Any) -> None:
    """Heads of encoder-decoders refuse a batch whose rows differ in the number of end tokens."""
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
