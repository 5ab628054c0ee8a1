"""Finds gold answers among the tokens of a paragraph."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from robustness.tasks.answer_scores import normalised_tokens
from robustness.tasks.gold import GoldSpan

_DROPPED = frozenset(string.punctuation + "anthe")
"""Characters that normalising may remove besides blanks: punctuation, and the letters of a, an and the."""


def find_gold_spans(
    context: str, answers: Sequence[GoldSpan], offsets: NDArray[np.int64], allowed: NDArray[np.bool_], longest: int
) -> NDArray[np.int64]:
    """Returns the first and last token of each span whose text is a gold answer by SQuAD's rules, shape (spans, 2).

    Characters that normalising never removes are equal in a gold answer and all its spans. So only spans around those
    characters are normalised, not all of the paragraph.

    Args:
        context: the paragraph.
        answers: gold answers at any place.
        offsets: start and end characters of a window's tokens, shape (tokens, 2).
        allowed: its tokens of the paragraph, shape (tokens,).
        longest: maximum of tokens in a span.

    >>> starts = [0, 3, 10]
    >>> tokens = np.array([[start, end] for start, end in zip(starts, [2, 9, 11])])
    >>> find_gold_spans("Oh Denver!", [GoldSpan("the Denver", 0)], tokens, np.ones(3, dtype=bool), 30).tolist()
    [[1, 1], [1, 2]]
    """
    places = np.flatnonzero(allowed)
    whole, before = _skeleton_of(context)
    starts, ends = (before[np.minimum(offsets[places, side], len(context))] for side in (0, 1))
    golds = {normalised_tokens(answer.text) for answer in answers}
    found: set[tuple[int, int]] = set()
    for core in {"".join(map(_skeleton, answer.text)) for answer in answers}:
        for at in _occurrences(whole, core):
            firsts, lasts = places[starts == at], places[ends == at + len(core)]
            for first in firsts:
                for last in lasts[(lasts >= first) & (lasts < first + longest)]:
                    if normalised_tokens(context[offsets[first, 0] : offsets[last, 1]]) in golds:
                        found.add((int(first), int(last)))
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


@lru_cache(maxsize=64)  # a paragraph has several windows, and a question has many forms with one paragraph
def _skeleton_of(context: str) -> tuple[str, NDArray[np.int64]]:
    """The kept characters of a paragraph, and their number before each character and the end."""
    kept = [_skeleton(character) for character in context]
    return "".join(kept), np.array(list(accumulate(map(len, kept), initial=0)), dtype=np.int64)


@lru_cache(maxsize=4_096)
def _skeleton(text: str) -> str:
    """The characters of a text that normalising always keeps; a final sigma is a sigma."""
    return "".join(c for c in text.lower().replace("\u03c2", "\u03c3") if c not in _DROPPED and not c.isspace())


def _occurrences(text: str, part: str) -> list[int]:
    """The places where a part begins, including overlaps; everywhere for an empty part."""
    found, at = [], text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found
