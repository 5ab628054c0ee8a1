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
    """Returns a digest of one input, 16 hexadecimal digits, the same in every process.

    >>> digest_texts(("a", "b")) == digest_texts(("a b",))
    False
    """
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


# TextAttack's words: runs of letters, digits and inner ' - _ * @; it counts these three signs as letters too.
# One exception: TextAttack segments Chinese text; here a run of it is one word.
_WORD = re.compile(r"[\w`\u02d7\xd7'\-*@]+")
_WORD_EDGES = "'-_*@"


@dataclass(frozen=True, slots=True)
class Example:
    """One input with its label; immutable, every edit returns a new one.

    Words are those of the attacked segments, in reading order, without protected words. TextAttack's rule finds them,
    so that published recipes see the same words. After `replace_word(i, w)` word i is exactly `w`, with any
    characters, and all other words keep their index.

    >>> example = Example("1", ("a fine film",), label=1)
    >>> example.replace_word(1, "f1ne").texts
    ('a f1ne film',)
    """

    id: str
    """Unique within its test set."""
    texts: Texts
    """The segments of the input: one sentence, or a pair."""
    label: int
    """Index into the task's labels; for questions 1: the answer is right."""
    group_id: str = ""
    """Examples of one source question share it; empty: the example is its own group."""
    attacked: tuple[int, ...] = (0,)
    """Indices of the segments an attack may change."""
    original: Texts | None = None
    """The benign text of a ready-made adversarial example, if known."""
    answers: tuple[GoldSpan, ...] = ()
    """Gold answers of a question."""
    method: str = ""
    """How a ready-made adversarial example was made, in its authors' terms."""
    construction: str = ""
    """The construction's level: word, sentence or human."""
    original_label: int | None = None
    """Gold label of `original`, if it differs from `label` as in a contrast set. None: the same."""
    original_answers: tuple[GoldSpan, ...] = ()
    """Gold answers to `original`, if they differ from `answers`."""
    label_entropy: float | None = None
    """Disagreement of the annotators in bits, where the test set gives it."""
    protected: tuple[Span, ...] = ()
    """Spans that no attack may edit, ascending; words that touch a span are not in `words`."""
    _spans: tuple[Span, ...] | None = field(default=None, compare=False, repr=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that may be changed.

        >>> Example("1", ("It's a well-made 'film'.",), label=1).words
        ("It's", 'a', 'well-made', 'film')
        """
        return tuple(self.texts[segment][start:end] for segment, start, end in self._word_spans())

    @property
    def all_words(self) -> tuple[str, ...]:
        """The words, including protected ones.

        >>> example = Example("1", ("two fine films",), label=1, protected=((0, 0, 3),))
        >>> example.words, example.all_words
        (('fine', 'films'), ('two', 'fine', 'films'))
        """
        return replace(self, protected=(), _spans=None).words if self.protected else self.words

    @property
    def spans(self) -> tuple[Span, ...]:
        """The places of the words, in the order of `words`.

        >>> Example("1", ("a fine film",), label=1).spans
        ((0, 0, 1), (0, 2, 6), (0, 7, 11))
        """
        return self._word_spans()

    @property
    def group(self) -> str:
        """The group's id; the example's own id if it has no group."""
        return self.group_id or self.id

    @property
    def clean_label(self) -> int:
        """The gold label of the clean form: the original's own label, if it has one."""
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
            self.original_answers,
            self.label_entropy,
            self.protected and tuple(_shift(span, segment, end, shift) for span in self.protected),
            moved,
        )

    def merge_words(self, index: int, word: str) -> Example:
        """Returns the example with one word in place of two neighbours; the second becomes an empty word.

        All other words keep their index. Raises IndexError if there is no such neighbour in the same segment, or a
        protected span lies between them.

        >>> merged = Example("1", ("a very fine film",), label=1).merge_words(1, "superb")
        >>> merged.texts, merged.words
        (('a superb film',), ('a', 'superb', '', 'film'))
        """
        spans = self._word_spans()
        if not 0 <= index < len(spans) - 1 or spans[index][0] != spans[index + 1][0]:
            raise IndexError(f"example {self.id}: word {index} has no neighbour after it")
        (segment, start, _), (_, _, end) = spans[index], spans[index + 1]
        if self.protects((segment, start, end)):
            raise IndexError(f"example {self.id}: something protected stands between word {index} and the next")
        text = self.texts[segment]
        texts = list(self.texts)
        texts[segment] = text[:start] + word + text[end:]
        shift = len(word) - (end - start)
        moved = [(s, b + shift, e + shift) if s == segment and b > start else (s, b, e) for s, b, e in spans]
        moved[index] = (segment, start, start + len(word))
        moved[index + 1] = (segment, start + len(word), start + len(word))
        protected = tuple(_shift(span, segment, end, shift) for span in self.protected)
        return replace(self, texts=tuple(texts), protected=protected, _spans=tuple(moved))

    def with_texts(self, texts: Sequence[str]) -> Example:
        """Returns the example with all its segments replaced; finds its words and protected spans again."""
        if not self.protected:
            return replace(self, texts=tuple(texts), _spans=None)
        found = find_protected_again(self.texts, tuple(texts), self.protected)
        return replace(self, texts=tuple(texts), protected=tuple(filter(None, found)), _spans=None)

    def protects(self, place: Span) -> bool:
        """Whether the place overlaps a protected span."""
        return any(s == place[0] and a < place[2] and place[1] < b for s, a, b in self.protected)

    def first_broken(self, texts: Sequence[str]) -> str | None:
        """Returns the first protected text that another form of the example lacks at its place.

        >>> example = Example("1", ("two fine films",), label=1, protected=((0, 0, 3),))
        >>> example.first_broken(["two dull films"]), example.first_broken(["twoo fine films"])
        (None, 'two')
        """
        if not self.protected:
            return None
        found = find_protected_again(self.texts, tuple(texts), self.protected)
        broken = next((span for span, at in zip(self.protected, found, strict=True) if at is None), None)
        return None if broken is None else self.texts[broken[0]][broken[1] : broken[2]]

    def clean_form(self) -> Example:
        """Returns the benign original with its own label or answers; the example itself without an original.

        >>> row = Example("1", ("a dull film",), label=0, original=("a fine film",), original_label=1)
        >>> row.clean_form().texts, row.clean_form().label
        (('a fine film',), 1)
        """
        if self.original is None:
            return self
        answers = self.original_answers or self.answers
        clean = replace(
            self, label=self.clean_label, answers=answers, original=None, original_label=None, original_answers=()
        )
        return clean.with_texts(self.original)

    def _word_spans(self) -> tuple[Span, ...]:
        spans = self._spans
        if spans is None:
            spans = tuple(
                (segment, start, end) for segment in self.attacked for start, end in _word_bounds(self.texts[segment])
            )
            if self.protected:
                spans = tuple(span for span in spans if not self.protects(span))
            object.__setattr__(self, "_spans", spans)  # a cache: the value follows from the other fields
        return spans


def find_protected_again(old: Texts, new: Texts, protected: Sequence[Span]) -> list[Span | None]:
    """Returns the place of each protected span in another form of the texts; None if a span is lost.

    Spans outside the changed part move with it; spans within it are searched after the previous span. A span that was
    no part of a longer word must not become one.

    >>> find_protected_again(("in 1 or 12 days",), ("within 1 or 12 days",), [(0, 3, 4), (0, 8, 10)])
    [(0, 7, 8), (0, 12, 14)]
    """
    found: list[Span | None] = []
    ends = [0] * len(new)
    for segment, start, end in protected:
        before, after = old[segment], new[segment] if segment < len(new) else ""
        text, alone = before[start:end], _stands_alone(before, start, end)
        at = _moved(before, after, start, end)
        if at is None or at < ends[segment] or not _fits(after, at, text, alone):
            at = after.find(text, ends[segment])
            while at >= 0 and not _fits(after, at, text, alone):
                at = after.find(text, at + 1)
        if at < 0:
            found.append(None)
            continue
        ends[segment] = at + len(text)
        found.append((segment, at, at + len(text)))
    return found


def _moved(old: str, new: str, start: int, end: int) -> int | None:
    """The new place of a span outside the changed part of two texts."""
    if old[:end] == new[:end]:
        return start
    return start + len(new) - len(old) if new.endswith(old[start:]) else None


def _fits(text: str, at: int, span: str, alone: tuple[bool, bool]) -> bool:
    """Whether a text has the span at a place, without joining it to a new word."""
    if not text.startswith(span, at):
        return False
    now = _stands_alone(text, at, at + len(span))
    return now[0] >= alone[0] and now[1] >= alone[1]


def _stands_alone(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether a span is free of letters and digits on its left, and on its right."""
    return not text[max(0, start - 1) : start].isalnum(), not text[end : end + 1].isalnum()


def _shift(span: Span, segment: int, end: int, shift: int) -> Span:
    """A span after a change of length that ends at `end` of a segment."""
    return (span[0], span[1] + shift, span[2] + shift) if span[0] == segment and span[1] >= end else span


def _word_bounds(text: str) -> list[tuple[int, int]]:
    bounds = []
    for match in _WORD.finditer(text):
        run = match.group()
        start = match.start() + len(run) - len(run.lstrip(_WORD_EDGES))
        end = match.end() - (len(run) - len(run.rstrip(_WORD_EDGES)))
        if start < end:
            bounds.append((start, end))
    return bounds
