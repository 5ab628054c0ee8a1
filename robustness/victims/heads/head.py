"""The protocol of every loaded checkpoint, whatever it answers with."""

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
    """A model with its tokenizer, asked by examples and answering with rows that its grader reads.

    What it has beyond rows, `can` says beforehand: nothing asks for its class.
    """

    model: Any
    tokenizer: Any
    forwards: int
    """Texts, or windows of them, run through the model so far."""

    @property
    def grader(self) -> Grader:
        """Makes losses, right or wrong, and grades of the rows."""
        ...

    @property
    def can(self) -> frozenset[Ability]:
        """What it may be asked."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        ...

    @property
    def max_tokens(self) -> int:
        """Of one text, or of a window of it."""
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
        """Digests of the texts that it has not read whole."""
        ...

    @property
    def contradicted(self) -> set[str]:
        """Digests of the texts that were answered in another way when they were asked about again."""
        ...

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns what the model gives for each example, shape (len(asked), numbers), float32, in their order."""
        ...

    def logits(self, texts: Sequence[Texts]) -> Rows:
        """Returns what checks of a checkpoint compare, shape (len(texts), numbers), float32: no gold is needed."""
        ...

    def compile(self) -> str | None:
        """Has torch.compile make faster kernels where it can; returns why there are none, or None."""
        ...

    def find_fault(self) -> str | None:
        """Returns why the model cannot answer as its kind must, or None."""
        ...

    def read_as(self, other: Head) -> Head:
        """Returns a new head on this one's model whose answers are read as the other's, of one kind with it."""
        ...

    def describe_scoring(self) -> list[str]:
        """Returns what rows depend on besides the checkpoint and the text."""
        ...

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """Returns the examples as one padded batch of word embeddings; texts are truncated as for rows.

        Raises:
            UsageError: no examples, or they have different numbers of segments.
            CheckpointError: a tokenizer that cannot say where a token comes from, or a model that does not look up
                the tokens it is given.
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
        """Returns why, by id, the examples that have no margin have none."""
        ...


class LabelHead(Head, Protocol):
    """A head with `Ability.SCORES`."""

    def scores(self, texts: Sequence[Texts]) -> Rows:
        """Returns a logit for each of the task's labels, shape (len(texts), labels), float32."""
        ...


def with_scores(head: Head) -> LabelHead | None:
    """Returns the head as one that is asked for scores; None where it has none."""
    return cast("LabelHead", head) if Ability.SCORES in head.can else None
