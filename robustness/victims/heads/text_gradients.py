"""The gradient at a text: of the loss by the embedding of every token, with the token's place in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.objective import Objective
from robustness.testsets.example import Example, Span
from robustness.victims.heads.label_gradients import embed, frozen, gradient_batches, margins
from robustness.victims.heads.labels import Victim
from robustness.victims.vocabulary import Vocabulary, vocabulary_of

UNTARGETED = Objective()


@final
@dataclass(frozen=True, slots=True)
class TextGradient:
    """What a model says of one text, to first order, at the tokens of its open segments.

    The gradient is that of max over c != y of z_c, minus z_y, which does not saturate where the model is confident.
    For two labels it is that of the loss up to a positive factor.
    """

    loss: float
    """Minus the log-probability of what is right; not a number where the model's answer is not finite."""
    reached: bool
    """Whether the attack's objective is reached."""
    tokens: NDArray[np.int64]
    """Ids, shape (tokens,); special and padding tokens and those of closed segments are left out."""
    places: tuple[Span, ...]
    """Each token's segment, start and end in the text."""
    gradient: NDArray[np.float32]
    """By the word embeddings, shape (tokens, dim); zero where it was not finite."""
    vanished: bool
    """Whether the gradient is zero at every token, or was not finite."""
    vocabulary: Vocabulary

    def tokens_of(self, span: Span) -> list[int]:
        """Returns the positions, in `tokens`, of those that share a character with the span."""
        segment, start, end = span
        return [i for i, (s, a, b) in enumerate(self.places) if s == segment and a < end and b > start]


def text_gradients(
    victim: Victim, examples: Sequence[Example], objective: Objective = UNTARGETED
) -> list[TextGradient]:
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
                gradients = _differentiate(victim, batch, objective)
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                torch.cuda.empty_cache()
                stack += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                continue
            found |= zip((id(example) for example in batch), gradients, strict=True)
    return [found[id(example)] for example in examples]


def _differentiate(victim: Victim, examples: Sequence[Example], objective: Objective) -> list[TextGradient]:
    batch = embed(victim, examples)
    with torch.enable_grad():
        point = batch.embeddings.requires_grad_()
        logits = batch.logits(point)
        (slope,) = torch.autograd.grad(-margins(logits, batch.labels).sum(), point)
    vocabulary = vocabulary_of(victim)
    scores = logits.detach().cpu().numpy()
    losses = np.where(np.isfinite(scores).all(axis=1), victim.grader.losses(scores, examples), np.nan)
    reached = objective.reached(victim.grader.correct(scores, examples))
    gradients = []
    for row, (tokens, places) in enumerate(vocabulary.locate(examples)):
        own = slope[row][batch.content[row]].cpu().numpy()
        finite = bool(np.isfinite(own).all())
        own = own if finite else np.zeros_like(own)
        vanished = not finite or not own.any()
        gradients.append(
            TextGradient(float(losses[row]), bool(reached[row]), tokens, places, own, vanished, vocabulary)
        )
    return gradients
