"""Splits a paragraph into sentences by rule, because no package offers a model."""

from __future__ import annotations

import re

_ABBREVIATIONS_TEXT = """
mr mrs ms dr prof st sr jr gen col lt sgt capt gov sen rep rev hon vs etc no vol p pp ca approx inc ltd co corp
dept est fig al eds ed e.g i.e u.s u.k u.n d.c a.m p.m b.c a.d ph.d
"""
ABBREVIATIONS = frozenset(_ABBREVIATIONS_TEXT.split())
"""Words before a full stop that does not end a sentence, in lower case without the last stop."""

_STOP = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s+[\"'\u201c\u2018(\[]?[A-Z0-9À-Þ])")
_LAST_WORD = re.compile(r"[^\s(\[\"\u201c]+$")


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Returns start and end of every sentence of a paragraph; only blanks lie between them.

    A sentence ends at a full stop, question or exclamation mark (closing quotes and brackets included) before a
    blank and a capital letter or digit. A stop after an initial or a known abbreviation does not end it.

    >>> text = "Dr. J. Smith came. He left at 5 p.m. on Monday!"
    >>> [text[a:b] for a, b in split_sentences(text)]
    ['Dr. J. Smith came.', 'He left at 5 p.m. on Monday!']
    """
    bounds = []
    start = 0
    for match in _STOP.finditer(text):
        if text[match.start()] == "." and _is_abbreviation(text[start : match.start()]):
            continue
        bounds.append((start, match.end()))
        start = match.end()
    bounds.append((start, len(text)))
    return [trimmed for begin, end in bounds if (trimmed := _trim(text, begin, end)) is not None]


def _is_abbreviation(before: str) -> bool:
    match = _LAST_WORD.search(before)
    if match is None:
        return False
    word = match.group()
    return word.lower() in ABBREVIATIONS or re.fullmatch(r"(?:[A-Z]\.)*[A-Z]", word) is not None


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    piece = text[start:end]
    if not piece.strip():
        return None
    return start + len(piece) - len(piece.lstrip()), end - (len(piece) - len(piece.rstrip()))
