"""The gradient at a text: of the loss by the embedding of every token, with the token's place in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Example, Span
from robustness.victims.heads.label_gradients import embed, frozen, gradient_batches, margins
from robustness.victims.heads.labels import Victim
from robustness.victims.vocabulary import Vocabulary, vocabulary_of


@final
@dataclass(frozen=True, slots=True)
class TextGradient:
    """What a model says of one text, to first order, at the tokens of its open segments.

    The loss is max over c != y of z_c, minus z_y: above 0 the answer is wrong, and it does not saturate where the
    model is confident. For two labels its gradient is that of cross-entropy up to a positive factor.
    """

    scores: NDArray[np.float32]
    """Logits, shape (labels,)."""
    tokens: NDArray[np.int64]
    """Ids, shape (tokens,); special and padding tokens and those of closed segments are left out."""
    places: tuple[Span, ...]
    """Each token's segment, start and end in the text."""
    gradient: NDArray[np.float32]
    """Of the loss by the word embeddings: shape (tokens, dim); zero where it was not finite."""
    vanished: bool
    """Whether the gradient is zero at every token, or was not finite."""
    vocabulary: Vocabulary

    def tokens_of(self, span: Span) -> list[int]:
        """Returns the positions, in `tokens`, of those that share a character with the span."""
        segment, start, end = span
        return [i for i, (s, a, b) in enumerate(self.places) if s == segment and a < end and b > start]


def text_gradients(victim: Victim, examples: Sequence[Example]) -> list[TextGradient]:
    """Returns the gradient at each example's text, in evaluation mode, in the order of `examples`.

    A batch that does not fit the memory is halved.

    Raises:
        OutOfMemoryError: a single text that does not fit.
        UsageError: examples with different numbers of segments.
        CheckpointError: a tokenizer or a model that cannot be differentiated; see `embed`.
    """
    found: dict[int, TextGradient] = {}
    with frozen(victim):
        stack = gradient_batches(victim, examples)[::-1]
        while stack:
            batch = stack.pop()
            try:
                gradients = _differentiate(victim, batch)
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                torch.cuda.empty_cache()
                stack += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                continue
            found |= zip((id(example) for example in batch), gradients, strict=True)
    return [found[id(example)] for example in examples]


def _differentiate(victim: Victim, examples: Sequence[Example]) -> list[TextGradient]:
    batch = embed(victim, examples)
    with torch.enable_grad():
        point = batch.embeddings.requires_grad_()
        logits = batch.logits(point)
        (slope,) = torch.autograd.grad(-margins(logits, batch.labels).sum(), point)
    vocabulary = vocabulary_of(victim)
    rows = zip(logits.detach().cpu().numpy(), batch.content, slope, vocabulary.locate(examples), strict=True)
    gradients = []
    for scores, content, gradient, (tokens, places) in rows:
        own = gradient[content].cpu().numpy()
        finite = bool(np.isfinite(own).all())
        own = own if finite else np.zeros_like(own)
        gradients.append(TextGradient(scores, tokens, places, own, not finite or not own.any(), vocabulary))
    return gradients
