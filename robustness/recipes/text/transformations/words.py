"""Word substitutions: the words that may replace a word."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from pydantic import PositiveInt

from robustness.recipes.assets.lexical import Thesaurus
from robustness.recipes.text.transformations.transformation import Transformation
from robustness.testsets.example import Example


def wordnet_synonyms(thesaurus: Thesaurus) -> Transformation:
    """Returns the transformation to all single-word synonyms of all senses of a word, sorted (PWWS, P19-1103).

    Case is WordNet's, and a synonym may be another form of the same lemma.
    """

    @lru_cache(maxsize=1 << 16)
    def synonyms(word: str) -> tuple[str, ...]:
        names = {name for sense in thesaurus.synsets(word) for name in sense.lemma_names()}
        return tuple(sorted(name for name in names if name != word and "_" not in name and is_one_word(name)))

    def substitute(word: str, rng: np.random.Generator) -> list[str]:
        del rng
        return list(synonyms(word))

    return substitute


def nearest_neighbours(neighbours: Mapping[str, tuple[str, ...]], count: PositiveInt) -> Transformation:
    """Returns the transformation to a word's `count` nearest neighbours, in its own case (arXiv 1907.11932)."""

    def substitute(word: str, rng: np.random.Generator) -> list[str]:
        del rng
        near = neighbours.get(word.lower(), ())[:count]
        forms = [in_case_of(word, neighbour) for neighbour in near]
        return [form for form in dict.fromkeys(forms) if form != word]

    return substitute


def in_case_of(pattern: str, word: str) -> str:
    """Returns the word in the case of another: lower, upper, capitalised, or unchanged.

    >>> in_case_of("Good", "fine"), in_case_of("GOOD", "fine"), in_case_of("I", "we")
    ('Fine', 'FINE', 'We')
    """
    if pattern.islower():
        return word.lower()
    if pattern.isupper() and len(pattern) > 1:
        return word.upper()
    if pattern[:1].isupper() and (len(pattern) == 1 or pattern[1:].islower()):
        return word.capitalize()
    return word


def is_one_word(text: str, *, whole: bool = False) -> bool:
    """Whether a text has exactly one word; with `whole` also nothing else.

    >>> is_one_word("well-made"), is_one_word("U.S."), is_one_word("film.", whole=True)
    (True, False, False)
    """
    words = Example("", (text,), label=0).words
    return words == (text,) if whole else len(words) == 1
