"""How far one text is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from robustness.testsets.example import Example, Texts


@final
@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a text."""

    words: int
    """Replaced, removed or added."""
    share: float | None
    """A share of the clean text's words; None for a text without words."""
    similarity: float
    """Characters kept: 1 - Levenshtein distance / length of the longer text."""


def measure_change(clean: Example, changed: Example) -> Change:
    """Returns what was done to the words open to attack, and to the characters of all segments."""
    words = count_modified_words(clean, changed)
    share = words / len(clean.all_words) if clean.all_words else None
    return Change(words, share, character_similarity(clean.texts, changed.texts))


def count_modified_words(example: Example, proposal: Example) -> int:
    """Words replaced, removed or added: the fewest that lead from one text to the other, their edit distance.

    >>> clean = Example("1", ("a good film",), label=1)
    >>> count_modified_words(clean, clean.with_texts(["a really goood film"]))
    2
    """
    from rapidfuzz.distance import Levenshtein

    # rapidfuzz hashes words, but compares one-letter words by code point, so hashes could collide.
    numbers = {word: number for number, word in enumerate({*example.all_words, *proposal.all_words})}
    before, after = ([numbers[word] for word in each.all_words] for each in (example, proposal))
    return int(Levenshtein.distance(before, after))


def character_similarity(clean: Texts, adversarial: Texts) -> float:
    """1 - Levenshtein distance / length of the longer, over the joined segments; 1 means unchanged."""
    from rapidfuzz.distance import Levenshtein  # imported late: an attack that changes no letters does not need it

    return float(Levenshtein.normalized_similarity("\n".join(clean), "\n".join(adversarial)))
