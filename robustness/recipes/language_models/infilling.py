"""Transformations in context: words that a masked language model predicts at a place of the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Literal, Protocol, TypeAlias, final

from pydantic import Field, PositiveInt

from robustness.recipes.assets.lexical import Tagger
from robustness.recipes.language_models.masked_lm import Hole, MaskedLanguageModel
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.recipes.text.transformations.words import in_case_of
from robustness.testsets.example import Example, Span, Texts

MERGED_PARTS: dict[str, frozenset[str]] = {
    "NOUN": frozenset({"NOUN"}),
    "ADJ": frozenset({"NOUN", "NUM", "ADJ", "ADV"}),
    "ADV": frozenset({"ADJ", "VERB"}),
    "VERB": frozenset({"ADV", "VERB", "NOUN", "ADJ"}),
    "DET": frozenset({"NOUN", "ADJ"}),
    "PRON": frozenset({"NOUN", "ADJ"}),
    "NUM": frozenset({"NUM", "NOUN"}),
}
"""Parts of speech of neighbours that may be merged, as in TextAttack's WordMergeMaskedLM."""

REMEMBERED_TEXTS = 4_096
"""Number of texts whose candidates are cached: one batch of searches and their steps."""

Source: TypeAlias = tuple[Texts, tuple[Span, ...]]
"""A text and the positions of its words."""

Words: TypeAlias = dict[int, tuple[str, ...]]
"""A masked language model's words, by index of the place."""


Probability = Annotated[float, Field(ge=0, lt=1)]
Context = Literal["clean", "current"]


class InContext(Protocol):
    """The forms of a text at one word, which depend on the surrounding words."""

    @property
    def keeps_words(self) -> bool:
        """Whether one word replaces one word, so that constraints on words apply."""
        ...

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        """Returns forms of `current`; a pure function of its arguments.

        Args:
            clean: the clean text.
            current: the current text, with the clean text's word indices.
            index: of the word.
            changeable: indices of all words that may change, so that one call fills all holes.
        """
        ...


@final
class Replacements:
    """Masks a word and takes the model's predictions for it (arXiv 2004.01970, 2009.07502).

    Args:
        model: fills the hole; given in a recipe file by folder or hub id.
        count: words for each place.
        min_probability: of a word.
        context: the other words: of the clean text or of the current text. The clean text's allow one call for all
            places, with the same result for every victim.
    """

    keeps_words = True

    def __init__(
        self, model: MaskedLanguageModel, count: PositiveInt, min_probability: Probability = 0.0, *, context: Context
    ) -> None:
        self._model = model
        self._from_clean = context == "clean"
        self._words = lru_cache(REMEMBERED_TEXTS)(_filler(model, count, min_probability, _without_word))

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        """Returns `current` with its word replaced, the likeliest word first."""
        if self._from_clean:
            words = self._words(_source(clean), tuple(changeable)).get(index, ())
        else:
            words = self._words(_source(current), (index,))[index]
        return _replaced(self._model, current, index, words)


@final
class Rereadings:
    """Takes the model's predictions at an unmasked word, sub-word by sub-word (arXiv 2004.09984).

    All words of a text need one forward pass of the clean text.

    Args:
        model: reads the text; given in a recipe file by folder or hub id.
        count: tokens for each place, and combinations of tokens for each word of several tokens.
    """

    keeps_words = True

    def __init__(self, model: MaskedLanguageModel, count: PositiveInt) -> None:
        self._model = model
        self._count = count
        self._words = lru_cache(REMEMBERED_TEXTS)(self._read)

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        """Returns `current` with its word replaced, the likeliest first; function words are never candidates."""
        words = self._words(_source(clean), tuple(changeable)).get(index, ())
        return _replaced(self._model, current, index, [word for word in words if word not in FUNCTION_WORDS])

    def _read(self, source: Source, indices: tuple[int, ...]) -> Words:
        text, spans = _join(source)
        read = self._model.reread(text, [spans[i] for i in indices], self._count)
        return dict(zip(indices, read, strict=True))


@final
class Insertions:
    """Inserts a word before a word (arXiv 2009.07502, 2004.01970).

    Args:
        model: fills the hole; given in a recipe file by folder or hub id.
        count: words for each place.
        min_probability: of a word.
        context: the other words, as for masked-replacements.
    """

    keeps_words = False

    def __init__(
        self, model: MaskedLanguageModel, count: PositiveInt, min_probability: Probability = 0.0, *, context: Context
    ) -> None:
        self._model = model
        self._from_clean = context == "clean"
        self._words = lru_cache(REMEMBERED_TEXTS)(_filler(model, count, min_probability, _before_word))

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        """Returns `current` with a word inserted at `index`, the likeliest first."""
        if self._from_clean:
            words = self._words(_source(clean), tuple(changeable)).get(index, ())
        else:
            words = self._words(_source(current), (index,))[index]
        own = current.words[index]
        return [current.replace_word(index, f"{word} {own}") for word in words if word != own]


@final
class Merges:
    """Masks two neighbours with one hole and takes the model's predictions for it (arXiv 2009.07502).

    Only blanks separate neighbours, and MERGED_PARTS lists their parts of speech.

    Args:
        model: fills the hole; given in a recipe file by folder or hub id.
        count: words for each place.
        min_probability: of a word.
        tagger: words to universal parts of speech.
    """

    keeps_words = False

    def __init__(
        self, model: MaskedLanguageModel, count: PositiveInt, min_probability: Probability = 0.0, *, tagger: Tagger
    ) -> None:
        self._model = model
        self._tagger = tagger
        self._fill = _filler(model, count, min_probability, _without_two)
        self._words = lru_cache(REMEMBERED_TEXTS)(self._merge_all)

    def candidates(self, clean: Example, current: Example, index: int, changeable: Sequence[int]) -> list[Example]:
        """Returns `current` with the word at `index` merged with its neighbour; both are as in `clean`."""
        found = []
        merged = self._words(_source(clean), tuple(changeable))
        for first in (index - 1, index):
            if first in merged and current.words[first : first + 2] == clean.words[first : first + 2]:
                for word in merged[first]:
                    form = in_case_of(clean.words[first], word) if self._model.is_uncased else word
                    if form != clean.words[first]:
                        found.append(current.merge_words(first, form))
        return found

    def _merge_all(self, source: Source, changeable: tuple[int, ...]) -> Words:
        texts, spans = source
        words = [texts[segment][start:end] for segment, start, end in spans]
        tags = self._tagger(words) if words else []
        touched = {i for index in changeable for i in (index - 1, index) if 0 <= i < len(words) - 1}
        return self._fill(
            source,
            tuple(
                i
                for i in sorted(touched)
                if tags[i + 1] in MERGED_PARTS.get(tags[i], ()) and _are_neighbours(source, i)
            ),
        )


def _filler(
    model: MaskedLanguageModel,
    count: int,
    min_probability: float,
    hole_at: Callable[[str, Sequence[tuple[int, int]], int], Hole],
) -> Callable[[Source, tuple[int, ...]], Words]:
    """Returns the words for holes at some words of a text, from one call of the model."""

    def fill(source: Source, indices: tuple[int, ...]) -> Words:
        text, spans = _join(source)
        filled = model.fill([hole_at(text, spans, i) for i in indices], count, min_probability)
        return dict(zip(indices, filled, strict=True))

    return fill


def _without_word(text: str, spans: Sequence[tuple[int, int]], index: int) -> Hole:
    start, end = spans[index]
    return Hole(text[:start], text[end:])


def _before_word(text: str, spans: Sequence[tuple[int, int]], index: int) -> Hole:
    start, _ = spans[index]
    return Hole(text[:start], f" {text[start:]}")


def _without_two(text: str, spans: Sequence[tuple[int, int]], index: int) -> Hole:
    return Hole(text[: spans[index][0]], text[spans[index + 1][1] :])


def _source(example: Example) -> Source:
    return example.texts, example.spans


def _join(source: Source) -> tuple[str, list[tuple[int, int]]]:
    """Returns the segments as one text, one line each, and the words' places in it."""
    texts, spans = source
    starts = [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    return "\n".join(texts), [(starts[segment] + start, starts[segment] + end) for segment, start, end in spans]


def _are_neighbours(source: Source, index: int) -> bool:
    texts, spans = source
    (segment, _, end), (other, start, _) = spans[index], spans[index + 1]
    return segment == other and texts[segment][end:start].isspace()


def _replaced(model: MaskedLanguageModel, current: Example, index: int, words: Sequence[str]) -> list[Example]:
    """Gives the words of an uncased model the case of the words that they replace."""
    own = current.words[index]
    forms = [in_case_of(own, word) for word in words] if model.is_uncased else words
    return [current.replace_word(index, form) for form in dict.fromkeys(forms) if form != own]
