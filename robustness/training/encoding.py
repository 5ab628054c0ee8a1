"""Rows as token ids: what differs by the kind of task is declared here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robustness.errors import CheckpointError, first_line
from robustness.tasks.task import TaskKind
from robustness.training.answering import encode_questions
from robustness.training.completions import encode_texts
from robustness.training.labelling import encode_labelled
from robustness.training.rows import EncodedRows, Reader, TrainingRows
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.inputs import empty_model
from robustness.victims.inputs import max_tokens as position_limit
from robustness.victims.padding import settle_padding_token


@dataclass(frozen=True, slots=True)
class Form:
    """How tasks of one kind are trained."""

    encode: Callable[[TrainingRows, Reader], EncodedRows]
    gold: str = ""
    """What messages call an answer that all rows share, from which nothing is learnt; empty: they may share it."""
    dev_rows: int = 1_000
    """At most so many select, where no limit is given."""
    report_rows: int = 1_000
    """Likewise report."""
    against_prompts: str = ""
    """Why learnt vectors before the text are not trained; empty: they are."""


FORMS: Mapping[TaskKind, Form] = {
    TaskKind.LABELS: Form(encode_labelled, gold="label"),
    TaskKind.SPAN: Form(
        encode_questions,
        against_prompts="peft's model does not tell them which tokens are the question's, as the full arm is told, "
        "and takes the answer's place as if no vectors stood before it",
    ),
    # A response takes as long as dozens of labels.
    TaskKind.TEXT: Form(encode_texts, gold="gold text", dev_rows=100, report_rows=200),
}


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
        DataError: rows of an encoder-decoder with its end token inside their text; or prompts or answers of a text
            task that are too long, or printed.
    """
    try:
        tokenizer = read_tokenizer(base)
    except Exception as error:  # transformers and tokenizers each raise kinds of their own
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
