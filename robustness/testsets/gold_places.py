"""Finds the places of gold answers in a row's texts."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

from robustness.tasks.answer_scores import normalised_tokens
from robustness.tasks.gold import GoldSpan
from robustness.tasks.text.meaning import parse_meaning

_RUN = re.compile(r"\S+")


def find_answers(context: str, answers: Sequence[GoldSpan]) -> list[tuple[int, int]]:
    """Returns the places of gold answers in a paragraph: as written, and after SQuAD's normalisation.

    >>> find_answers("Denver won. the DENVER-based Broncos", [GoldSpan("Denver", 0), GoldSpan("broncos", 0)])
    [(0, 6), (29, 36)]
    """
    found = [
        (gold.start, gold.start + len(gold.text)) for gold in answers if context.startswith(gold.text, gold.start)
    ]
    runs = [(normalised_tokens(match.group()), match.span()) for match in _RUN.finditer(context)]
    read = [(token, bounds) for tokens, bounds in runs for token in tokens]
    for text in dict.fromkeys(gold.text for gold in answers):
        pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
        found += [match.span() for match in re.finditer(pattern, context)]
        wanted = list(normalised_tokens(text))
        for first in range(len(read) - len(wanted) + 1 if wanted else 0):
            if [token for token, _ in read[first : first + len(wanted)]] == wanted:
                found.append(_bare(context, read[first][1][0], read[first + len(wanted) - 1][1][1]))
    return united(context, found)


def find_slot_values(text: str, answers: Sequence[GoldSpan]) -> list[tuple[int, int]]:
    """Returns the places where a text has slot values of a meaning representation word for word.

    >>> find_slot_values("Is Portal 2 on PC?", [GoldSpan("confirm(name[Portal 2], platforms[PC, Xbox])", 0)])
    [(3, 11), (15, 17)]
    """
    meanings = filter(None, (parse_meaning(gold.text.strip()) for gold in answers))
    values = {value for meaning in meanings for slot in meaning.slots for value in slot.values}
    places = (re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text) for value in values)
    return sorted(match.span() for found in places for match in found)


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    """Without punctuation at either end, which the scorer ignores."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip(string.punctuation)), start + len(part.rstrip(string.punctuation))


def united(text: str, bounds: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending and disjoint, without surrounding blanks, because deleting a word deletes a blank too."""
    united: list[tuple[int, int]] = []
    for start, end in sorted(_trimmed(text, bounds)):
        if united and start <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], end)
        else:
            united.append((start, end))
    return united


def _trimmed(text: str, bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in bounds:
        part = text[start:end]
        start, end = start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))
        if start < end:
            yield start, end
