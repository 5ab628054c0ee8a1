"""Meaning representations: a dialogue act with slots, as `inform(name[Portal], genres[puzzle, shooter])`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

# Possessive, so that a mismatch fails in one pass over the text.
_HEAD = re.compile(r"(\w++)\s*+\(\s*+")
_SLOT = re.compile(r"(\w++)\s*+\[([^\[\]]*+)\]\s*+")
_COMMA = re.compile(r",\s*+")


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """One slot with its values."""

    name: str
    values: tuple[str, ...]
    """Ascending, because order has no meaning; empty for empty brackets."""

    def __str__(self) -> str:
        return f"{self.name}[{', '.join(self.values)}]"


@dataclass(frozen=True, slots=True)
class MeaningRepresentation:
    """A function with its slots.

    Source: ViGGO (Juraska et al., INLG 2019), whose data follow this grammar to the last row.
    """

    function: str
    slots: tuple[Slot, ...]
    """Ascending; a slot may appear twice."""

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.slots))})"


def parse_meaning(text: str) -> MeaningRepresentation | None:
    """Reads a whole text as `function(slot[value, ...], ...)`; None for any other text.

    Slots, and values within a slot, may be in any order; a value may be empty. Names are runs of letters, digits and
    underscores. Values contain no brackets and are separated by commas. Blanks count only within a value, where
    several are one; case counts.

    >>> str(parse_meaning("confirm(release_year[2015], genres[shooter,  puzzle])"))
    'confirm(genres[puzzle, shooter], release_year[2015])'
    >>> parse_meaning("confirm(name[Portal") is None
    True
    """
    text = text.strip()
    head = _HEAD.match(text)
    if head is None or not text.endswith(")"):
        return None
    slots, place, end = [], head.end(), len(text) - 1
    while place < end:
        slot = _SLOT.match(text, place)
        if slot is None:
            return None
        values = (" ".join(value.split()) for value in slot[2].split(","))
        slots.append(Slot(slot[1], tuple(sorted(filter(None, values)))))
        place = slot.end()
        if place < end:
            comma = _COMMA.match(text, place)
            if comma is None or comma.end() >= end:  # a trailing comma
                return None
            place = comma.end()
    return MeaningRepresentation(head[1], tuple(sorted(slots)))


def slot_f1(said: MeaningRepresentation, gold: MeaningRepresentation) -> float:
    r"""Returns F1 over the multisets of slots, each with all its values; 1 if both are empty.

    $$F_1 = \frac{2 |S \cap G|}{|S| + |G|}$$ The function does not count here, only in exact match.

    >>> said, gold = parse_meaning("inform(name[Portal], rating[good])"), parse_meaning("inform(name[Portal])")
    >>> round(slot_f1(said, gold), 3)
    0.667
    """
    total = len(said.slots) + len(gold.slots)
    common = sum((Counter(said.slots) & Counter(gold.slots)).values())
    return 2 * common / total if total else 1.0
