"""The protocol of every loaded checkpoint, for all kinds of answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch

from robustness.tasks.abilities import Ability
from robustness.tasks.grading import Grader, Rows
from robustness.testsets.example import Example, Texts
from robustness.victims.batches import TokenBatches
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.text_gradients import Located, TextGradient
from robustness.victims.inputs import Company


class Head(Protocol):
    """A model with its tokenizer; takes examples and gives rows that its grader reads.

    `can` declares its abilities beyond rows; no code checks its class.
    """

    model: Any
    tokenizer: Any
    forwards: int
    """Texts, or windows of them, run through the model so far."""

    @property
    def grader(self) -> Grader:
        """Turns rows into losses, correctness and grades."""
        ...

    @property
    def can(self) -> frozenset[Ability]:
        """Its abilities."""
        ...

    @property
    def device(self) -> torch.device:
        """The model's device."""
        ...

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of one text, or of a window of it."""
        ...

    @property
    def padding_sides(self) -> tuple[str, ...]:
        """Sides on which its texts may be padded, the usual one first."""
        ...

    @property
    def company(self) -> Company:
        """Which texts may share a batch."""
        ...

    @property
    def batches(self) -> TokenBatches:
        """The sizes of its batches."""
        ...

    @property
    def truncated(self) -> set[str]:
        """Digests of truncated texts."""
        ...

    @property
    def contradicted(self) -> set[str]:
        """Digests of texts that got another answer when asked about again."""
        ...

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the model's row for each example, shape (len(asked), numbers), float32, in their order."""
        ...

    def logits(self, texts: Sequence[Texts]) -> Rows:
        """Returns numbers for the checks of a checkpoint, shape (len(texts), numbers), float32; needs no gold."""
        ...

    def compile(self) -> str | None:
        """Compiles faster kernels by torch.compile; returns the reason on failure, or None."""
        ...

    def find_fault(self) -> str | None:
        """Returns why the model does not fit its kind of answer, or None."""
        ...

    def read_as(self, other: Head) -> Head:
        """Returns a new head on this model that reads answers like the other head of the same kind."""
        ...

    def describe_scoring(self) -> list[str]:
        """Returns everything that rows depend on besides the checkpoint and the text."""
        ...

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """Returns the examples as one padded batch of word embeddings; texts are truncated as for rows.

        Raises:
            UsageError: no examples, or they have different numbers of segments.
            CheckpointError: the tokenizer gives no token places, or the model does not look up its input tokens.
        """
        ...

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
        ...

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the content tokens of each example, as `embed` chooses them."""
        ...

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text, in their order.

        Raises:
            OutOfMemoryError: a single text that does not fit.
            UsageError, CheckpointError: as `embed`.
        """
        ...

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns the reasons, by id, of examples without a margin."""
        ...


class LabelHead(Head, Protocol):
    """A head with `Ability.SCORES`."""

    def scores(self, texts: Sequence[Texts]) -> Rows:
        """Returns a logit for each of the task's labels, shape (len(texts), labels), float32."""
        ...


def with_scores(head: Head) -> LabelHead | None:
    """Returns the head as a Scorer; None if it has no scores."""
    return cast("LabelHead", head) if Ability.SCORES in head.can else None
