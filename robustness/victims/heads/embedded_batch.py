"""Examples as word embeddings, with the rest of a model as a differentiable function of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

import torch

from robustness.tasks.grading import Grade
from robustness.testsets.example import Example, Span
from robustness.victims.inputs import Company
from robustness.victims.lookup import embedding_module, look_up

if TYPE_CHECKING:
    from robustness.victims.heads.head import Head

Forward = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""Word embeddings (batch, tokens, dim) and the model's other inputs to logits (batch, labels)."""

Grades = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], list[Grade]]
"""From the same inputs to the grade of each row's response."""

CPU_GRADIENT_TOKENS = 512
CUDA_GRADIENT_TOKENS = 16_384
NORM_ROWS = 16_384
"""Rows of the embedding matrix measured at a time; bounds memory for large vocabularies."""

_units: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


@final
@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """Examples as word embeddings, with the rest of the model as a differentiable function of them.

    Word embeddings are the embedding matrix's output; positions, segments and everything after them belong to the
    function. Rows do not interact, so the gradient of a sum over rows contains every row's own gradient.
    """

    embeddings: torch.Tensor
    """Shape (batch, tokens, dim), float32, no gradient."""
    content: torch.Tensor
    """Shape (batch, tokens), bool: tokens of the attacked segments, never special, padding or protected ones."""
    labels: torch.Tensor
    """Shape (batch,), int64."""
    unit: float
    """Median l2 norm of the victim's token embeddings: a unit of radius that makes models comparable."""
    inputs: Mapping[str, torch.Tensor]
    """The model's other inputs; rows along the first axis."""
    forward: Forward
    chance: float | None = None
    """Accuracy of guessing; None: one over the number of labels."""
    grade: Grades | None = None
    """Grades responses: the margin is of their tokens, and below 0 the changed response may still be right.

    None: the answer is wrong exactly if the margin is below 0.
    """

    @property
    def attended(self) -> torch.Tensor:
        """Shape (batch, tokens), bool: not padding; a model without mask input never gets padding."""
        mask = self.inputs.get("attention_mask")
        return torch.ones_like(self.content) if mask is None else mask.bool()

    def logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns logits, shape (batch, labels), float32, in the task's label order, of other embeddings."""
        return self.forward(embeddings, self.inputs)

    def grades(self, embeddings: torch.Tensor) -> list[Grade] | None:
        """Returns grades of the responses to other embeddings; None if the margin decides."""
        return None if self.grade is None else self.grade(embeddings, self.inputs)

    def select(self, rows: torch.Tensor) -> EmbeddedBatch:
        """Returns the batch of these rows (int64 indices, or a bool mask)."""
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        return replace(
            self,
            embeddings=self.embeddings[rows],
            content=self.content[rows],
            labels=self.labels[rows],
            inputs=inputs,
        )


def is_open(example: Example, place: Span) -> bool:
    """Whether a token may be perturbed: it lies in an attacked segment and overlaps no protected span."""
    return place[0] in example.attacked and not (example.protected and example.protects(place))


def margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns z_y - max over c != y of z_c, shape (batch,): negative where the answer is wrong.

    >>> margins(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1])).item()
    2.0
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return true - others.amax(dim=1)


def median_token_norm(victim: Head) -> float:
    """Returns the median l2 norm of the rows of the input embedding matrix; computed once per victim."""
    if victim not in _units:
        count = len(embedding_module(victim.model).weight)
        norms = []
        with torch.no_grad():
            for start in range(0, count, NORM_ROWS):
                rows = torch.arange(start, min(start + NORM_ROWS, count), device=victim.device)
                norms.append(torch.linalg.vector_norm(look_up(victim.model, rows), dim=1))
        _units[victim] = float(torch.cat(norms).median())
    return _units[victim]


@contextmanager
def frozen(victim: Head) -> Iterator[None]:
    """Evaluation mode without parameter gradients; restores both afterwards.

    Gradients of the embeddings need half the memory within it.
    """
    wanted = [parameter for parameter in victim.model.parameters() if parameter.requires_grad]
    training = [module for module in victim.model.modules() if module.training]
    for parameter in wanted:
        parameter.requires_grad_(False)
    victim.model.eval()
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


def group_by_length(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], company: Company, device: torch.device
) -> list[list[Example]]:
    """Groups examples by token length, longest first, so that a batch fits the device and pads little.

    Args:
        examples: the examples to differentiate.
        rows: the tokens of each example.
        company: which examples may share a batch.
        device: determines the tokens of a batch.
    """
    limit = CUDA_GRADIENT_TOKENS if device.type == "cuda" else CPU_GRADIENT_TOKENS
    kinds = company.kinds(rows)
    order = sorted(range(len(examples)), key=lambda i: (kinds[i], -len(rows[i])))
    batches: list[list[Example]] = []
    room = 0
    for place, index in enumerate(order):
        if room == 0 or kinds[index] != kinds[order[place - 1]]:
            batches.append([])
            room = max(1, limit // max(1, len(rows[index])))
        batches[-1].append(examples[index])
        room -= 1
    return batches
