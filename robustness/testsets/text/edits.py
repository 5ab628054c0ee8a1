"""Edits of sentences that a reader would not answer otherwise for: typos, case, spacing, synonyms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from robustness.testsets.example import Example

TYPO_SHARE = 0.15
"""Of the words that may be changed, and at least one of them."""
SHORTEST = 4
"""Letters of a word that is mistyped: of shorter ones too little would be left."""
SPACES = 3
"""Blanks that are doubled, at most."""
_PAIRS_TEXT = """
remember recall  recently lately  maybe perhaps  think believe  definitely certainly  usually normally
often frequently  mentioned said  mentioning saying  game title  games titles  kind sort  kinds sorts  guess suppose
because since  quite rather  really truly  whole entire  friends buddies  seems appears  seem appear
launched released  tell inform  wondering curious
"""
_ONE_WAY_TEXT = """
nowadays today  folks people  assume presume  began started  begin start  obtain get  chat talk  talking chatting
various several  mainly mostly  totally completely
"""


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return list(zip(words[::2], words[1::2], strict=True))


SYNONYMS: Mapping[str, str] = MappingProxyType(
    dict(_pairs(_ONE_WAY_TEXT)) | {b: a for a, b in _pairs(_PAIRS_TEXT)} | dict(_pairs(_PAIRS_TEXT))
)
"""Words that say the same of a game, in either place; none says how good one is, which is a slot."""


def mistype(example: Example, rng: np.random.Generator) -> Example | None:
    """Exchanges, drops or doubles a letter within some words; None where no word is long enough."""
    words = example.words
    # What is in capitals is short for something, and would say something else.
    fitting = [i for i, word in enumerate(words) if word.isalpha() and not word.isupper() and len(word) >= SHORTEST]
    if not fitting:
        return None
    count = max(1, math.floor(TYPO_SHARE * len(words)))
    for index in sorted(rng.permutation(fitting)[:count].tolist()):
        example = example.replace_word(index, _mistyped(words[index], rng))
    return example


def _mistyped(word: str, rng: np.random.Generator) -> str:
    """The first letter stays; a word of one letter throughout gets longer."""
    place, kind = int(rng.integers(1, len(word) - 1)), int(rng.integers(3))
    if kind == 0 and word[place] != word[place + 1]:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place] + word[place:]


def change_case(example: Example, rng: np.random.Generator) -> Example | None:
    """Writes all words that may be changed in small letters, or all in capitals."""
    order = (str.lower, str.upper) if rng.integers(2) else (str.upper, str.lower)
    for change in order:
        changed = example
        for index, word in enumerate(example.words):
            changed = changed.replace_word(index, change(word))
        if changed.texts != example.texts:
            return changed
    return None


def change_spacing(example: Example, rng: np.random.Generator) -> Example | None:
    """Doubles some of the blanks outside what is protected; None where there are none."""
    texts = list(example.texts)
    for segment in example.attacked:
        text = texts[segment]
        places = [m.start() for m in re.finditer(" ", text) if not example.protects((segment, m.start(), m.end()))]
        for place in sorted(rng.permutation(places)[:SPACES].astype(int).tolist(), reverse=True):
            text = f"{text[:place]} {text[place:]}"
        texts[segment] = text
    return None if tuple(texts) == example.texts else example.with_texts(texts)


def replace_synonyms(example: Example, rng: np.random.Generator) -> Example | None:
    """Puts a synonym in place of every word that has one; None where none has."""
    del rng
    changed = example
    for index, word in enumerate(example.words):
        synonym = SYNONYMS.get(word.lower())
        if synonym is not None and word in (word.lower(), word.capitalize()):
            changed = changed.replace_word(index, synonym.capitalize() if word[0].isupper() else synonym)
    return None if changed.texts == example.texts else changed


EDITS: Mapping[str, Callable[[Example, np.random.Generator], Example | None]] = MappingProxyType(
    {"typos": mistype, "case": change_case, "spacing": change_spacing, "synonyms": replace_synonyms}
)
"""By their names in tables."""
