"""Rankings: the order in which a greedy search edits words."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Access, Answer, Gradients, Losses, Question
from robustness.recipes.text.edits import WordEdits
from robustness.testsets.example import Example

if TYPE_CHECKING:  # gradients import torch, which other rankings do not need
    from robustness.victims.heads.text_gradients import TextGradient

Order: TypeAlias = Generator[Question, Any, list[int]]
"""Yields questions like a search; returns word indices, the most promising first."""


class Ranking(Protocol):
    """Orders the words that a recipe may change."""

    @property
    def access(self) -> Access:
        """Scores or gradients."""
        ...

    def order(self, example: Example, edits: WordEdits, rng: np.random.Generator) -> Order:
        """Returns the indices of the changeable words, the most promising first."""
        ...


@dataclass(frozen=True, slots=True)
class ByHiding:
    """Ranks by the loss's growth when a token hides the word (arXiv 1801.04354, 1907.11932)."""

    unknown_token: str
    access: Access = Access.SCORES

    def order(self, example: Example, edits: WordEdits, rng: np.random.Generator) -> Order:
        """Asks about each changeable word once."""
        del rng
        indices = edits.constraints.changeable(example)
        if not indices:
            return []
        hidden: Answer = yield Losses([example.replace_word(i, self.unknown_token) for i in indices])
        return _descending(indices, hidden.losses)


@dataclass(frozen=True, slots=True)
class ByDeleting:
    """Ranks by the loss's growth when the word is deleted (arXiv 1907.11932, 1812.05271)."""

    access: Access = Access.SCORES

    def order(self, example: Example, edits: WordEdits, rng: np.random.Generator) -> Order:
        """Asks about each changeable word once."""
        del rng
        indices = edits.constraints.changeable(example)
        if not indices:
            return []
        without: Answer = yield Losses([delete_word(example, i) for i in indices])
        return _descending(indices, without.losses)


@dataclass(frozen=True, slots=True)
class ByGradient:
    """Ranks by the gradient's l1 norm at the word, the mean over its tokens: one backward pass (arXiv 2109.00544)."""

    access: Access = Access.GRADIENTS

    def order(self, example: Example, edits: WordEdits, rng: np.random.Generator) -> Order:
        """Asks for one gradient, at the clean text."""
        del rng
        indices = edits.constraints.changeable(example)
        if not indices:
            return []
        gradient: TextGradient
        (gradient,) = yield Gradients([example])
        sizes = np.zeros(len(indices))
        for i, index in enumerate(indices):
            held = gradient.tokens_of(example.spans[index])
            if held:
                sizes[i] = np.abs(gradient.gradient[held].astype(np.float64).mean(axis=0)).sum()
        return _descending(indices, sizes)


@dataclass(frozen=True, slots=True)
class ByWeightedSaliency:
    """Ranks by the softmax of the words' saliency times the effect of their best edits (PWWS, P19-1103).

    Saliency is the error probability 1 - p(gold) with the word hidden. The second factor is the largest error
    probability among the word's candidates, or 0 without candidates. Softmax is invariant to a shift, so saliency may
    omit the clean text's probability. The second factor omits it as TextAttack does.
    """

    unknown_token: str
    access: Access = Access.SCORES

    def order(self, example: Example, edits: WordEdits, rng: np.random.Generator) -> Order:
        """Asks about each changeable word once, and about each of its candidates."""
        indices = edits.constraints.changeable(example)
        if not indices:
            return []
        hidden: Answer = yield Losses([example.replace_word(i, self.unknown_token) for i in indices])
        saliency = np.exp(error_probabilities(hidden.losses))
        candidates = [edits.candidates(example, example, i, rng) for i in indices]
        gains = np.zeros(len(indices))
        asked = [candidate for each in candidates for candidate in each]
        if asked:
            answer: Answer = yield Losses(asked)  # the search asks again; TextAttack counts these queries too
            errors = error_probabilities(answer.losses)
            starts = np.cumsum([0, *(len(each) for each in candidates)])
            for i, (start, end) in enumerate(pairwise(starts)):
                gains[i] = errors[start:end].max(initial=0.0)
        return _descending(indices, saliency / saliency.sum() * gains)


def error_probabilities(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """One minus the gold's probability, of the same shape, exact down to 1e-16.

    >>> bool(0 < error_probabilities(np.array([1e-13]))[0] < 1.1e-13)
    True
    """
    return np.asarray(-np.expm1(-losses))


def reaches(candidates: Sequence[Example], answer: Answer, index: int) -> Generator[Question, Any, bool]:
    """Returns whether one candidate reaches the objective; asks only if the answer does not tell.

    Args:
        candidates: their losses were asked for.
        answer: the answer to that question.
        index: the candidate's place.
    """
    if answer.free_reached is not None:
        return bool(answer.free_reached[index])
    asked: Answer = yield [candidates[index]]
    return bool(asked.reached[0])


def worst_reached(
    candidates: Sequence[Example], answer: Answer, values: NDArray[np.float64]
) -> Generator[Question, Any, int | None]:
    """Returns the candidate of the largest value among candidates that reach the objective, or None.

    A victim that would decode every candidate is asked only about the one with the largest value.
    """
    if answer.free_reached is None:
        worst = int(values.argmax())
        return worst if (yield from reaches(candidates, answer, worst)) else None
    reached = np.flatnonzero(answer.free_reached)
    return int(reached[values[reached].argmax()]) if reached.size else None


def delete_word(example: Example, index: int) -> Example:
    """Returns the example without a word and the space before it; after it for the first word.

    >>> delete_word(Example("1", ("a fine, warm film",), label=1), 1).texts
    ('a, warm film',)
    """
    mark = "\ue000"
    while any(mark in text for text in example.texts):
        mark += "\ue000"
    texts = list(example.replace_word(index, mark).texts)
    segment = next(i for i, text in enumerate(texts) if mark in text)
    before, _, after = texts[segment].partition(mark)
    if index == 0:
        after = after.removeprefix(" ")
    elif after:
        before = before.removesuffix(" ")
    texts[segment] = before + after
    return example.with_texts(texts)


def _descending(indices: list[int], values: NDArray[np.float64]) -> list[int]:
    return [indices[i] for i in np.argsort(-values, kind="stable")]
