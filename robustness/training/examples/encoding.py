"""Encodes rows as token ids: declares once the differences between kinds of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robustness.errors import CheckpointError, first_line
from robustness.tasks.task import TaskKind
from robustness.training.examples.answering import encode_questions
from robustness.training.examples.completions import encode_texts
from robustness.training.examples.labelling import encode_labelled
from robustness.training.examples.rows import EncodedRows, Reader, TrainingRows
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.inputs import empty_model
from robustness.victims.inputs import max_tokens as position_limit
from robustness.victims.padding import settle_padding_token


@dataclass(frozen=True, slots=True)
class Form:
    """Training properties of one kind of task."""

    encode: Callable[[TrainingRows, Reader], EncodedRows]
    gold: str = ""
    """Name in messages of an answer that all rows share; empty: they may share it."""
    dev_rows: int = 1_000
    """Default maximum of selecting rows."""
    report_rows: int = 1_000
    """Default maximum of reporting rows."""
    against_prompts: str = ""
    """Why learnt vectors before the text are not supported; empty: they are."""


FORMS: Mapping[TaskKind, Form] = {
    TaskKind.LABELS: Form(encode_labelled, gold="label"),
    TaskKind.SPAN: Form(
        encode_questions,
        against_prompts="peft's model drops segment ids, which the full arm gets, "
        "and reads the answer's position as if no vectors preceded the text",
    ),
    # A response costs as much as dozens of labels.
    TaskKind.TEXT: Form(encode_texts, gold="gold text", dev_rows=100, report_rows=200),
}


def encode_rows(rows: TrainingRows, base: Path, max_tokens: int, virtual_tokens: int = 0) -> EncodedRows:
    """Tokenises with the base's tokenizer, without padding.

    Args:
        rows: the texts.
        base: the base's folder.
        max_tokens: maximum; longer texts are cut.
        virtual_tokens: positions that some method of the call uses.

    Raises:
        UsageError: texts of this length and learnt tokens exceed the base's positions.
        CheckpointError: the base has no tokenizer, or one that cannot pad.
        DataError: rows of an encoder-decoder have its end token inside their text. Or prompts of a text task are too
            long or print the answer, or its answers are too long.
    """
    try:
        tokenizer = read_tokenizer(base)
    except Exception as error:  # transformers and tokenizers raise errors of many classes
        raise CheckpointError(f"base {base}: its tokenizer cannot be loaded: {first_line(error)}") from error
    model = empty_model(base)
    settle_padding_token(model, tokenizer, f"base {base}")
    reader = Reader(
        name=f"base {base}",
        tokenizer=tokenizer,
        model=model,
        positions=position_limit(model, tokenizer),
        free_positions=position_limit(model, tokenizer, virtual_tokens),
        virtual_tokens=virtual_tokens,
        max_tokens=max_tokens,
    )
    return FORMS[rows.task.kind].encode(rows, reader)
