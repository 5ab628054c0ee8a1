"""Texts in pieces, marked where one differs from another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from rapidfuzz.distance import Levenshtein

MAX_CHARACTERS = 1_200
"""Longer texts are shown to here."""
MAX_MATCHED = 3_000
"""Characters of a text that is searched for changes, so that a page is made in seconds."""
KEPT = 120
"""Characters that are shown on either side of a cut between two changes."""
GAP = " \u2026 "
_WORDS = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a text, marked where it was changed."""

    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Marked:
    """Two texts, and where each differs from the other."""

    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


def whole_text(text: object) -> str:
    """Returns a cell of examples.csv in readable form: the parts of a pair one after the other, a long text cut."""
    whole = str(text)
    if whole.startswith("["):
        with suppress(ValueError):  # a single text that merely starts so
            whole = " / ".join(str(segment) for segment in json.loads(whole))
    return whole if len(whole) <= MAX_MATCHED else whole[:MAX_MATCHED] + GAP


def shorten_unchanged(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Returns the pieces with long stretches that nothing changed cut to what stands around the changes.

    >>> pieces = shorten_unchanged([Piece("a" * 1000, False), Piece("b", True)])
    >>> len(pieces[0].text), pieces[1].text
    (243, 'b')
    """
    most = KEPT if any(piece.changed for piece in pieces) else MAX_CHARACTERS // 2
    return tuple(_shorten(piece, most) for piece in pieces)


def _shorten(piece: Piece, kept: int) -> Piece:
    if len(piece.text) <= 2 * kept + len(GAP) or piece.changed:
        return piece if len(piece.text) <= MAX_CHARACTERS else Piece(piece.text[:MAX_CHARACTERS] + GAP, piece.changed)
    return Piece(piece.text[:kept] + GAP + piece.text[-kept:], changed=False)


def shown_text(text: object) -> str:
    """Returns a cell of examples.csv in readable form, cut if it is long."""
    whole = whole_text(text)
    return whole if len(whole) <= MAX_CHARACTERS else whole[:MAX_CHARACTERS] + " ..."


def mark_letters(before: str, after: str) -> Marked:
    """Returns both texts with changed letters marked in each, of words that stand in each other's place.

    >>> marked = mark_letters("a fine film", "a fime film")
    >>> [piece.text for piece in marked.before if piece.changed], [p.text for p in marked.after if p.changed]
    (['n'], ['m'])
    """
    first, second = _WORDS.findall(before), _WORDS.findall(after)
    parts: list[Marked] = []
    for kind, i, j, k, m in _edits(first, second):
        if kind == "replace" and j - i == m - k:
            parts += [_mark(*words) for words in zip(first[i:j], second[k:m], strict=True)]
        elif kind == "replace":
            parts.append(_mark("".join(first[i:j]), "".join(second[k:m])))
        else:
            parts.append(_mark(first[i:j], second[k:m]))
    return Marked(
        tuple(_join(piece for part in parts for piece in part.before)),
        tuple(_join(piece for part in parts for piece in part.after)),
    )


def _edits(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """The fewest changes, neighbours of one kind as one: kind, then the ends in both."""
    for edit in Levenshtein.opcodes(before, after):
        yield edit.tag, edit.src_start, edit.src_end, edit.dest_start, edit.dest_end


def _mark(before: Sequence[str], after: Sequence[str]) -> Marked:
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i, j, k, m in _edits(before, after):
        changed = kind != "equal"
        left += [Piece("".join(before[i:j]), changed)] if j > i else []
        right += [Piece("".join(after[k:m]), changed)] if m > k or changed else []  # a mark where letters are gone
    return Marked(tuple(left), tuple(right))


def _join(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Neighbours that are both marked, or both not, as one."""
    for changed, same in groupby(pieces, key=lambda piece: piece.changed):
        yield Piece("".join(piece.text for piece in same), changed)
