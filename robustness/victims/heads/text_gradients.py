"""The gradient at a text: of the loss with respect to every token's embedding, with the token's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.grading import Grader
from robustness.testsets.example import Example, Span
from robustness.victims.batches import recover_memory
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from robustness.victims.heads.head import Head


@dataclass(frozen=True, slots=True)
class Located:
    """The tokens of a text with gradients."""

    tokens: NDArray[np.int64]
    """Ids, shape (tokens,)."""
    places: tuple[Span, ...]
    """Each token's segment, start and end in the text."""


@final
@dataclass(frozen=True, slots=True)
class TextGradient:
    """A model's first-order behaviour at one text, for the tokens of its open segments.

    With labels the gradient is that of max over c != y of z_c, minus z_y, which does not saturate for a confident
    model. For two labels it equals the loss's gradient up to a positive factor. For questions and responses it is the
    loss's gradient.
    """

    loss: float
    """Minus the log-probability of the gold; nan if the model's output is not finite."""
    reached: bool
    """Whether the objective is reached; a wrong answer until the engine applies the attack's own objective."""
    tokens: NDArray[np.int64]
    """Ids, shape (tokens,), without special and padding tokens and tokens of closed segments."""
    places: tuple[Span, ...]
    """Each token's segment, start and end in the text."""
    gradient: NDArray[np.float32]
    """With respect to the word embeddings, shape (tokens, dim); zero where not finite, and at protected tokens."""
    vanished: bool
    """Whether the gradient is zero at every token, or was not finite."""
    vocabulary: Vocabulary
    generated: int | None = None
    """Tokens decoded to check the objective; None for a victim that decodes nothing."""

    def tokens_of(self, span: Span) -> list[int]:
        """Returns the positions in `tokens` of tokens that share a character with the span."""
        segment, start, end = span
        return [i for i, (s, a, b) in enumerate(self.places) if s == segment and a < end and b > start]


def text_gradients(victim: Head, examples: Sequence[Example]) -> list[TextGradient]:
    """Returns the gradient at each example's text, for a victim with margins of its embedded batch."""
    batches = victim.gradient_batches(examples)
    return differentiate_batches(victim, examples, batches, partial(_differentiate, victim))


def differentiate_batches(
    victim: Head,
    examples: Sequence[Example],
    batches: Iterable[Sequence[Example]],
    differentiate: Callable[[Sequence[Example]], Sequence[TextGradient]],
) -> list[TextGradient]:
    """Returns the gradients of batches, in evaluation mode, in the order of `examples`.

    Halves a batch that does not fit the memory.

    Raises:
        OutOfMemoryError: a single text that does not fit.
    """
    found: dict[int, TextGradient] = {}
    with frozen(victim):
        stack = list(batches)[::-1]
        while stack:
            batch = stack.pop()
            try:
                gradients = differentiate(batch)
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    raise
            else:
                found |= zip((id(example) for example in batch), gradients, strict=True)
                continue
            recover_memory()
            stack += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
    return [found[id(example)] for example in examples]


def gradient_at(
    grader: Grader,
    example: Example,
    row: NDArray[np.float32],
    located: Located,
    gradient: NDArray[np.float32],
    vocabulary: Vocabulary,
) -> TextGradient:
    """Returns the gradient at one text's tokens, shape (tokens, dim).

    It is zero where not finite, and at protected tokens.

    Args:
        grader: reads the row.
        example: the example of the text.
        row: the victim's row for it.
        located: the tokens.
        gradient: at each of them.
        vocabulary: the victim's.
    """
    is_answer = bool(np.isfinite(row).all())
    loss = float(grader.losses(row[None], [example])[0]) if is_answer else float("nan")
    reached = is_answer and not grader.correct(row[None], [example])[0]
    finite = bool(np.isfinite(gradient).all())
    own = gradient if finite else np.zeros_like(gradient)
    if example.protected:
        own[[example.protects(place) for place in located.places]] = 0
    vanished = not finite or not own.any()
    generated = grader.generated(row)
    return TextGradient(loss, bool(reached), located.tokens, located.places, own, vanished, vocabulary, generated)


def _differentiate(victim: Head, examples: Sequence[Example]) -> list[TextGradient]:
    batch = victim.embed(examples)
    with torch.enable_grad():
        point = batch.embeddings.requires_grad_()
        logits = batch.logits(point)
        (slope,) = torch.autograd.grad(-margins(logits, batch.labels).sum(), point)
    vocabulary = vocabulary_of(victim)
    rows = logits.detach().cpu().numpy()
    found = []
    for i, (example, located) in enumerate(zip(examples, victim.locate(examples), strict=True)):
        gradient = np.zeros((len(located.tokens), slope.shape[2]), dtype=np.float32)
        gradient[[not example.protects(place) for place in located.places]] = slope[i][batch.content[i]].cpu().numpy()
        found.append(gradient_at(victim.grader, example, rows[i], located, gradient, vocabulary))
    return found
