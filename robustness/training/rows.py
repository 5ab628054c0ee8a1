"""What a training works on: rows of one task, as texts and as token ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from robustness.tasks.task import Task
from robustness.testsets.example import Example

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


class Responses(Protocol):
    """Scores what a model answers to development rows."""

    def __call__(self, model: Any) -> float:
        """Returns the mean quality, in [0, 1]; the model is left as it was."""
        ...

    def shortened(self) -> Responses:
        """Returns the score of one response of few tokens, which says nothing but that there is one."""
        ...


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Development rows as token ids, with what scores them."""

    rows: tuple[EncodedRow, ...]
    metric: Callable[[Any], dict[str, float]] | None = None
    """From the trainer's predictions to a `score`; None: accuracy."""
    respond: Responses | None = None
    """Of text, in place of both."""


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
    """Whether each token has a label: they are padded, and the loss is a mean over those that count."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a base reads texts."""

    name: str
    """What messages call it."""
    tokenizer: Any
    model: Any
    """Without weights."""
    positions: int
    """Tokens of the longest text that it reads."""
    free_positions: int
    """Those that are left beside the learnt vectors."""
    virtual_tokens: int
    """Learnt vectors before the text, the most that a method of the call has."""
    max_tokens: int
    """Longer texts are cut."""
