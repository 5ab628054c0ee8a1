"""Rows of one task for training, as texts and as token ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from robustness.tasks.task import Task
from robustness.testsets.example import Example

EncodedRow = dict[str, Any]
"""Token ids, masks and `labels` of one row, for transformers' collator."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The training examples, and the clean ones that select a checkpoint or report its score."""

    testset: str
    task: Task
    train: tuple[Example, ...]
    selecting: tuple[Example, ...]
    reporting: tuple[Example, ...]
    train_digest: str
    """sha256 over all training rows of the set, before any limit."""
    dev_digest: str
    """The same over the development set, both halves."""
    augmented_digest: str = ""
    """sha256 of the file of changed rows that are among the training rows; empty without one."""
    rows_digest: str = ""
    """Of the texts and gold of `train`, `selecting` and `reporting`, in their order."""


class Responses(Protocol):
    """Scores a model's answers to development rows."""

    def __call__(self, model: Any) -> float:
        """Returns the mean quality, in [0, 1]; restores the model's state."""
        ...

    def shortened(self) -> Responses:
        """Returns the score of one response of few tokens, which only shows that the model responds."""
        ...


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Development rows as token ids, with their scoring."""

    rows: tuple[EncodedRow, ...]
    metric: Callable[[Any], dict[str, float]] | None = None
    """From the trainer's predictions to a `score`; None: accuracy."""
    respond: Responses | None = None
    """For text, in place of both."""


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """The same rows as token ids."""

    tokenizer: Any
    task: Task
    train: tuple[EncodedRow, ...]
    selecting: ScoredRows
    reporting: ScoredRows
    label_names: tuple[str, ...] = ("labels",)
    labels_tokens: bool = False
    """Whether each token has a label: labels are padded, and the loss is a mean over labelled tokens."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A base's properties for encoding texts."""

    name: str
    """Its name in messages."""
    tokenizer: Any
    model: Any
    """The model without weights."""
    positions: int
    """Maximum of tokens of a text."""
    free_positions: int
    """Tokens left besides the learnt vectors."""
    virtual_tokens: int
    """Learnt vectors before the text, the maximum over the call's methods."""
    max_tokens: int
    """Longer texts are cut."""
