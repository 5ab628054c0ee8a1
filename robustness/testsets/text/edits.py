"""Edits of sentences that keep a reader's answer: typos, case, spacing, synonyms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from robustness.testsets.example import Example

TYPO_SHARE = 0.15
"""Share of changeable words to edit, at least one."""
SHORTEST = 4
"""Least length of a mistyped word; shorter words would become unreadable."""
SPACES = 3
"""Maximum of doubled blanks."""
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
"""Pairs of interchangeable words about a game; none rates a game, because the rating is a slot."""


def mistype(example: Example, rng: np.random.Generator) -> Example | None:
    """Exchanges, drops or doubles a letter within some words; None if no word is long enough."""
    words = example.words
    # Words in capitals are abbreviations, which an edit would change into others.
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
    """Writes all changeable words in lower case, or all in upper case."""
    order = (str.lower, str.upper) if rng.integers(2) else (str.upper, str.lower)
    for change in order:
        changed = example
        for index, word in enumerate(example.words):
            changed = changed.replace_word(index, change(word))
        if changed.texts != example.texts:
            return changed
    return None


def change_spacing(example: Example, rng: np.random.Generator) -> Example | None:
    """Doubles some of the unprotected blanks; None if there are none."""
    texts = list(example.texts)
    for segment in example.attacked:
        text = texts[segment]
        places = [m.start() for m in re.finditer(" ", text) if not example.protects((segment, m.start(), m.end()))]
        for place in sorted(rng.permutation(places)[:SPACES].astype(int).tolist(), reverse=True):
            text = f"{text[:place]} {text[place:]}"
        texts[segment] = text
    return None if tuple(texts) == example.texts else example.with_texts(texts)


def replace_synonyms(example: Example, rng: np.random.Generator) -> Example | None:
    """Replaces every word that has a synonym; None if no word has one."""
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
"""By name in tables."""
