"""One example: the text a model reads, its label or answers, and the words an attack may change."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from robustness.tasks.gold import GoldSpan

Texts = tuple[str, ...]
"""The segments of one input in the order the model reads them: one sentence, or a pair."""

Span = tuple[int, int, int]
"""A word's place: segment, start, end."""


def digest_texts(texts: Texts) -> str:
    """Returns 16 hexadecimal digits that stand for one input, the same in every process.

    >>> digest_texts(("a", "b")) == digest_texts(("a b",))
    False
    """
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


# TextAttack's words: runs of letters, digits and inner ' - _ * @; it counts these three signs as letters too.
# One exception: TextAttack cuts Chinese text with a segmenter, here a run of it is one word.
_WORD = re.compile(r"[\w`\u02d7\xd7'\-*@]+")
_WORD_EDGES = "'-_*@"


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its label; immutable, every edit returns a new one.

    Words are those of the attacked segments, in reading order, found by TextAttack's rule (so that
    published recipes see the same words). After `replace_word(i, w)` word i is `w` to the letter, whatever
    characters it holds, and all other words keep their index.
    """

    id: str
    texts: Texts
    label: int
    """Index into the task's labels; where the task is answering, 1: that the answer is right."""
    group_id: str = ""
    """Examples of one source question share it; empty: the example is its own group."""
    attacked: tuple[int, ...] = (0,)
    """Indices of the segments an attack may change."""
    original: Texts | None = None
    """The benign text that a ready-made adversarial example was made from, where it is known."""
    answers: tuple[GoldSpan, ...] = ()
    """Gold answers, where the task is answering."""
    method: str = ""
    """How a ready-made adversarial example was made, in its authors' words."""
    construction: str = ""
    """At what level: word, sentence or human."""
    original_label: int | None = None
    """What is right of `original`, where it is not `label`: a contrast set changes both. None: the same."""
    _spans: tuple[Span, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may be changed.

        >>> Example("1", ("It's a well-made 'film'.",), label=1).words
        ("It's", 'a', 'well-made', 'film')
        """
        return tuple(self.texts[segment][start:end] for segment, start, end in self._word_spans())

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the words stand, in the order of `words`.

        >>> Example("1", ("a fine film",), label=1).spans
        ((0, 0, 1), (0, 2, 6), (0, 7, 11))
        """
        return self._word_spans()

    @property
    def group(self) -> str:
        """The group's id, which is the example's own where it has no other."""
        return self.group_id or self.id

    @property
    def clean_label(self) -> int:
        """What is right of the clean form: the original's label where it has its own."""
        return self.label if self.original_label is None else self.original_label

    def replace_word(self, index: int, word: str) -> Example:
        """Returns the example with one word replaced; raises IndexError when there is no such word.

        >>> Example("1", ("a fine film .",), label=1).replace_word(1, "fiine").texts
        ('a fiine film .',)
        """
        spans = self._word_spans()
        if not 0 <= index < len(spans):
            raise IndexError(f"example {self.id} has {len(spans)} words, no word {index}")
        segment, start, end = spans[index]
        text = self.texts[segment]
        texts = list(self.texts)
        texts[segment] = text[:start] + word + text[end:]
        shift = len(word) - (end - start)
        after = spans[index + 1 :]
        if shift:
            after = tuple([(s, b + shift, e + shift) if s == segment else (s, b, e) for s, b, e in after])
        moved = (*spans[:index], (segment, start, start + len(word)), *after)
        return Example(
            self.id,
            tuple(texts),
            self.label,
            self.group_id,
            self.attacked,
            self.original,
            self.answers,
            self.method,
            self.construction,
            self.original_label,
            moved,
        )

    def merge_words(self, index: int, word: str) -> Example:
        """Returns the example with one word in place of two neighbours, the second of which becomes an empty word.

        So all other words keep their index. Raises IndexError when there is no such neighbour in the same segment.

        >>> merged = Example("1", ("a very fine film",), label=1).merge_words(1, "superb")
        >>> merged.texts, merged.words
        (('a superb film',), ('a', 'superb', '', 'film'))
        """
        spans = self._word_spans()
        if not 0 <= index < len(spans) - 1 or spans[index][0] != spans[index + 1][0]:
            raise IndexError(f"example {self.id}: word {index} has no neighbour after it")
        (segment, start, _), (_, _, end) = spans[index], spans[index + 1]
        text = self.texts[segment]
        texts = list(self.texts)
        texts[segment] = text[:start] + word + text[end:]
        shift = len(word) - (end - start)
        moved = [(s, b + shift, e + shift) if s == segment and b > start else (s, b, e) for s, b, e in spans]
        moved[index] = (segment, start, start + len(word))
        moved[index + 1] = (segment, start + len(word), start + len(word))
        return replace(self, texts=tuple(texts), _spans=tuple(moved))

    def with_texts(self, texts: Sequence[str]) -> Example:
        """Returns the example with all its segments replaced; its words are found anew."""
        return replace(self, texts=tuple(texts), _spans=None)

    def clean_form(self) -> Example:
        """Returns the benign original with its own label; the example itself where no original is known.

        >>> row = Example("1", ("a dull film",), label=0, original=("a fine film",), original_label=1)
        >>> row.clean_form().texts, row.clean_form().label
        (('a fine film',), 1)
        """
        if self.original is None:
            return self
        clean = replace(self, label=self.clean_label, original=None, original_label=None)
        return clean.with_texts(self.original)

    def _word_spans(self) -> tuple[Span, ...]:
        spans = self._spans
        if spans is None:
            spans = tuple(
                (segment, start, end) for segment in self.attacked for start, end in _word_bounds(self.texts[segment])
            )
            object.__setattr__(self, "_spans", spans)  # a cache: the value follows from the other fields
        return spans


def _word_bounds(text: str) -> list[tuple[int, int]]:
    bounds = []
    for match in _WORD.finditer(text):
        run = match.group()
        start = match.start() + len(run) - len(run.lstrip(_WORD_EDGES))
        end = match.end() - (len(run) - len(run.rstrip(_WORD_EDGES)))
        if start < end:
            bounds.append((start, end))
    return bounds
