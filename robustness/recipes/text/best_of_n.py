"""Random noise on whole texts, repeated until an answer is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Search
from robustness.testsets.example import Example

Mask: TypeAlias = NDArray[np.bool_]
"""Which characters of a text may change, shape (characters,)."""
Noise: TypeAlias = Callable[[str, Mask, float, np.random.Generator], str]
"""(text, open characters, sigma, generator) -> a text of the same length."""

SHORTEST = 4
"""Shortest word to scramble; the paper's code takes words of more than three characters."""
FIRST_PRINTABLE, LAST_PRINTABLE = 0x20, 0x7E
"""Printable ASCII code points: a character that a shift would move outside them stays."""


def scramble_words(text: str, is_open: Mask, sigma: float, rng: np.random.Generator) -> str:
    r"""Shuffles the inner characters of each word of four or more with probability $\sqrt{\sigma}$.

    A word is a run without blanks; a word with a protected character stays. A shuffle may give the word itself.
    """
    characters = list(text)
    for start, end in _runs(text):
        if end - start >= SHORTEST and is_open[start:end].all() and rng.random() < np.sqrt(sigma):
            inner = rng.permutation(np.arange(start + 1, end - 1))
            characters[start + 1 : end - 1] = [text[place] for place in inner]
    return "".join(characters)


def flip_cases(text: str, is_open: Mask, sigma: float, rng: np.random.Generator) -> str:
    r"""Changes the case of each ASCII letter with probability $\sqrt{\sigma}$.

    >>> flip_cases("a2 B", np.array([True] * 4), 1.0, np.random.default_rng(0))
    'A2 b'
    """
    flipped = is_open & (rng.random(len(text)) < np.sqrt(sigma))
    return "".join(c.swapcase() if flip and c.isascii() else c for c, flip in zip(text, flipped, strict=True))


def shift_characters(text: str, is_open: Mask, sigma: float, rng: np.random.Generator) -> str:
    r"""Replaces each printable ASCII character, with probability $\sigma^3$, by its neighbour in code points.

    Both neighbours are equally likely; if the neighbour is not printable ASCII, the character stays.
    """
    shifted = is_open & (rng.random(len(text)) < sigma**3)
    steps = np.where(rng.random(len(text)) < 0.5, -1, 1)
    return "".join(
        _shift(character, int(step)) if shift else character
        for character, shift, step in zip(text, shifted, steps, strict=True)
    )


NOISES: tuple[Noise, ...] = (scramble_words, flip_cases, shift_characters)
"""In the order of the paper's code."""


@final
class BestOfN:
    """Draws independent noisy forms of the clean text, one after the other (arXiv 2412.03556).

    It reads only whether its objective is reached, so it works for every kind of answer. The queries of a success are
    the N at which it succeeded. All noises keep a text's length, so protected spans stay in place. Words (runs
    without blanks) that touch a protected span stay too.

    Args:
        samples: N, the number of forms to draw for an example.
        sigma: the strength of all noises, as in the paper.
    """

    access = Access.SCORES

    def __init__(self, *, samples: PositiveInt, sigma: Annotated[float, Field(gt=0, le=1)]) -> None:
        self._samples = samples
        self._sigma = sigma

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first form that reaches the objective; proposes the last form if none does."""
        masks = [open_characters(example, segment) for segment in range(len(example.texts))]
        drawn = example
        if not any(mask.any() for mask in masks):
            return example
        try:
            for _ in range(self._samples):
                drawn = example.with_texts(self._draw(example.texts, masks, rng))
                answer: Answer = yield [drawn]
                if answer.reached[0]:
                    break
        except BudgetExhausted:
            pass
        return drawn

    def _draw(self, texts: Sequence[str], masks: Sequence[Mask], rng: np.random.Generator) -> list[str]:
        noisy = list(texts)
        for segment, mask in enumerate(masks):
            if mask.any():
                for noise in NOISES:
                    noisy[segment] = noise(noisy[segment], mask, self._sigma, rng)
        return noisy


def open_characters(example: Example, segment: int) -> Mask:
    """Returns which characters of a segment may change: none of a closed segment or a protected word.

    >>> example = Example("1", ("no 12th,of May",), label=1, protected=((0, 3, 5),))
    >>> "".join("x" if is_open else "." for is_open in open_characters(example, 0))
    'xxx.......xxxx'
    """
    text = example.texts[segment]
    mask = np.full(len(text), segment in example.attacked)
    for place, start, end in example.protected:
        if place == segment:
            mask[start:end] = False
    for start, end in _runs(text):  # after the masks are set: a word next to a protected sign stays whole
        mask[start:end] &= not example.protects((segment, start, end))
    return mask


def _runs(text: str) -> list[tuple[int, int]]:
    """Start and end of each run without blanks."""
    blank = [True, *(character.isspace() for character in text), True]
    edges = [place for place in range(len(text) + 1) if blank[place] != blank[place + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _shift(character: str, step: int) -> str:
    code = ord(character)
    if not (FIRST_PRINTABLE <= code <= LAST_PRINTABLE and FIRST_PRINTABLE <= code + step <= LAST_PRINTABLE):
        return character
    return chr(code + step)
