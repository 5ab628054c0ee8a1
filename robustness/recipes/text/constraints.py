"""Constraints: which words may change, and how much of a text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, final

from pydantic import Field, PositiveInt

from robustness.recipes.assets.lexical import Tagger
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.testsets.example import Example

if TYPE_CHECKING:  # an encoder imports torch, which other recipes do not need
    from robustness.recipes.language_models.similarity import SentenceSimilarity


@final
class SamePartOfSpeech:
    """A new word must get the tag of the word that it replaces, in its clean context (arXiv 1907.11932).

    Args:
        tagger: words to universal parts of speech.
        noun_for_verb: whether nouns and verbs may replace each other.
    """

    BEFORE = 4
    """Words of context, as in TextFooler."""
    AFTER = 3

    def __init__(self, tagger: Tagger, *, noun_for_verb: bool) -> None:
        self.noun_for_verb = noun_for_verb
        self._tag = lru_cache(maxsize=1 << 16)(lambda words, place: tagger(list(words))[place])
        self._exchangeable = frozenset({"NOUN", "VERB"}) if noun_for_verb else frozenset()

    def allows(self, words: tuple[str, ...], index: int, word: str) -> bool:
        """Whether `word` may replace the clean text's word at `index`."""
        before = words[max(0, index - self.BEFORE) : index]
        after = words[index + 1 : index + 1 + self.AFTER]
        parts = {self._tag((*before, each, *after), len(before)) for each in (words[index], word)}
        return len(parts) == 1 or parts <= self._exchangeable


@dataclass(frozen=True, slots=True)
class Constraints:
    """All constraints of a recipe; an absent one does not bind."""

    skip_function_words: bool = False
    """Compared as written: "The" is not "the", as in TextAttack."""
    min_word_length: int = 0
    """In characters; shorter words stay."""
    max_edit_distance: int | None = None
    """Levenshtein distance to the clean text, in characters."""
    max_changed_words: int | None = None
    max_changed_share: float | None = None
    """A share of the clean text's words, rounded up."""
    changed_words_allowed: int = 0
    """So many words may change in any text, however short."""
    same_part_of_speech: SamePartOfSpeech | None = None
    sentence_similarity: SentenceSimilarity | None = None
    """Checked last, because it runs a model."""

    @property
    def bounds_drift(self) -> bool:
        """Whether `allows` refuses anything."""
        limits = (self.max_edit_distance, self.max_changed_words, self.max_changed_share)
        return any(limit is not None for limit in limits)

    def changeable(self, example: Example) -> list[int]:
        """Returns the indices of the words that may change, ascending."""
        return [
            i
            for i, word in enumerate(example.words)
            if len(word) >= self.min_word_length and not (self.skip_function_words and word in FUNCTION_WORDS)
        ]

    def allows_word(self, clean: Example, index: int, word: str) -> bool:
        """Whether a word may replace the one at a place of the clean text."""
        part_of_speech = self.same_part_of_speech
        return part_of_speech is None or part_of_speech.allows(clean.words, index, word)

    def allows(self, clean: Example, candidate: Example) -> bool:
        """Whether the candidate, made from the clean text word by word, is within the limits."""
        limit = self.word_limit(clean)
        if limit is not None and _changed_words(clean, candidate, limit) > limit:
            return False
        distance_limit = self.max_edit_distance
        if distance_limit is None:
            return True
        from rapidfuzz.distance import Levenshtein  # imported late: needed for this limit alone

        distance = sum(
            Levenshtein.distance(a, b, score_cutoff=distance_limit)
            for a, b in zip(clean.texts, candidate.texts, strict=True)
        )
        return bool(distance <= distance_limit)

    def similar(self, clean: Example, candidates: Sequence[Example], index: int) -> list[Example]:
        """Returns the candidates similar enough in meaning to the clean text, in one call of the encoder."""
        if self.sentence_similarity is None:
            return list(candidates)
        return self.sentence_similarity.near(clean, candidates, index)

    def word_limit(self, clean: Example) -> int | None:
        """Returns how many words of a text may change; None: all."""
        limits = [] if self.max_changed_words is None else [self.max_changed_words]
        if self.max_changed_share is not None:
            limits.append(max(math.ceil(len(clean.words) * self.max_changed_share), self.changed_words_allowed))
        return min(limits, default=None)


def skip_function_words() -> Constraints:
    """Function words (articles, pronouns, auxiliaries ...) are never changed."""
    return Constraints(skip_function_words=True)


def min_word_length(characters: PositiveInt) -> Constraints:
    """Words shorter than this stay."""
    return Constraints(min_word_length=characters)


def max_edit_distance(characters: PositiveInt) -> Constraints:
    """Levenshtein distance between clean and adversarial text, in characters."""
    return Constraints(max_edit_distance=characters)


def max_changed_words(words: PositiveInt) -> Constraints:
    """The number of words that may differ from the clean text."""
    return Constraints(max_changed_words=words)


def max_changed_share(share: Annotated[float, Field(gt=0, le=1)], at_least: PositiveInt | None = None) -> Constraints:
    """The share of the clean text's words that may differ, rounded up to words.

    Args:
        share: of the words.
        at_least: words that may differ in any case.
    """
    return Constraints(max_changed_share=share, changed_words_allowed=at_least or 0)


def strictest(limits: Sequence[Constraints]) -> Constraints:
    """Combines several limits on words and distances: the strictest of each kind holds."""
    shares = [each for each in limits if each.max_changed_share is not None]
    return Constraints(
        skip_function_words=any(each.skip_function_words for each in limits),
        min_word_length=max((each.min_word_length for each in limits), default=0),
        max_edit_distance=_least(each.max_edit_distance for each in limits),
        max_changed_words=_least(each.max_changed_words for each in limits),
        max_changed_share=min((each.max_changed_share or 1.0 for each in shares), default=None),
        changed_words_allowed=min((each.changed_words_allowed for each in shares), default=0),
    )


def _least(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _changed_words(clean: Example, candidate: Example, limit: int) -> int:
    if limit >= len(clean.words):
        return 0
    return sum(a != b for a, b in zip(clean.words, candidate.words, strict=True))
