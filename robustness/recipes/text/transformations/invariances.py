"""Changes that keep a text's label: other names, places and numbers, expanded contractions."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import PositiveInt

from robustness.recipes.text.transformations.transformation import Transformation
from robustness.recipes.text.transformations.words import in_case_of


def words_of(text: str) -> list[str]:
    """Returns the words of a list written as a text."""
    return text.split()


# Common given names and places, without English words (Will, Grace, Turkey).
WOMEN = words_of("""
Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Lisa Nancy Sandra Margaret Ashley Emily
Kimberly Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca Laura Helen Sharon Cynthia Kathleen Amy
Angela Anna Ruth Brenda Pamela Nicole Katherine Christine Catherine Rachel Maria Julia Emma Olivia Sophia
""")
MEN = words_of("""
James Robert John Michael David William Richard Joseph Thomas Charles Christopher Daniel Matthew Anthony Donald
Steven Paul Andrew Joshua Kenneth Kevin Brian George Edward Ronald Timothy Jason Jeffrey Ryan Jacob Nicholas Eric
Jonathan Stephen Larry Justin Scott Brandon Benjamin Samuel Gregory Alexander Patrick Raymond Dennis Peter
""")
COUNTRIES = words_of("""
Germany France Italy Spain Portugal Poland Austria Belgium Denmark Sweden Norway Finland Ireland Iceland Greece
Hungary Romania Bulgaria Ukraine Russia Canada Mexico Brazil Argentina Colombia Peru Cuba Egypt Morocco Kenya
Nigeria Ethiopia Ghana India Pakistan Bangladesh Nepal Thailand Vietnam Malaysia Indonesia Japan Korea Mongolia
Australia Iran Iraq Israel Syria Yemen
""")
CITIES = words_of("""
London Paris Berlin Madrid Rome Vienna Prague Budapest Warsaw Moscow Athens Lisbon Dublin Oslo Stockholm Copenhagen
Amsterdam Brussels Munich Hamburg Milan Barcelona Chicago Boston Houston Dallas Seattle Denver Philadelphia Detroit
Atlanta Miami Toronto Montreal Vancouver Sydney Melbourne Tokyo Osaka Seoul Beijing Shanghai Mumbai Delhi Cairo
Nairobi Lagos Istanbul Manhattan Hollywood
""")
NUMBER_WORDS = words_of("two three four five six seven eight nine ten eleven twelve")

# Contractions with one full form in every context; 's and 'd have several.
_NEGATED = words_of("is are was were does do did has have had could would should must need might")
CONTRACTIONS: dict[str, str] = {
    **{f"{verb}n't": f"{verb} not" for verb in _NEGATED},
    "can't": "cannot",
    "won't": "will not",
    "shan't": "shall not",
    **{f"{who}'re": f"{who} are" for who in words_of("we you they")},
    **{f"{who}'ve": f"{who} have" for who in words_of("i we you they should could would might")},
    **{f"{who}'ll": f"{who} will" for who in words_of("i we you they he she it that")},
    "i'm": "i am",
}
"""Lower-case contraction -> full form."""


def exchange(kind: Literal["names", "places", "numbers"], count: PositiveInt) -> Transformation:
    """Replaces a name, place or number by random others, which keep the label.

    Args:
        kind: the group of words.
        count: number of others to try.
    """
    if kind == "names":
        return exchange_among(WOMEN, MEN, count=count)
    return exchange_among(COUNTRIES, CITIES, count=count) if kind == "places" else exchange_numbers(count)


def exchange_among(*groups: list[str], count: int) -> Transformation:
    """Returns the transformation of a group's word to `count` random others of the group, in the word's case."""
    group_of = {word.lower(): [other for other in group if other != word] for group in groups for word in group}

    def substitute(word: str, rng: np.random.Generator) -> list[str]:
        others = group_of.get(word.lower(), [])
        drawn = rng.permutation(len(others))[:count]
        return [in_case_of(word, others[place]) for place in drawn]

    return substitute


def exchange_numbers(count: int) -> Transformation:
    """Returns the transformation of a number to at most `count` random others within 20 % of it.

    Number words from two to twelve become other words of this range.
    """
    words = exchange_among(NUMBER_WORDS, count=count)

    def substitute(word: str, rng: np.random.Generator) -> list[str]:
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            return words(word, rng)
        number = int(word)
        spread = max(1, number // 5)
        others = rng.integers(max(0, number - spread), number + spread + 1, size=4 * count).tolist()
        forms = dict.fromkeys(str(other) for other in others if other != number)
        return list(forms)[:count]

    return substitute


def write_out_contraction(word: str, rng: np.random.Generator) -> list[str]:
    """Returns a contraction's full form.

    >>> write_out_contraction("Isn't", np.random.default_rng(0))
    ['Is not']
    """
    del rng
    full = CONTRACTIONS.get(word.lower())
    if full is None:
        return []
    if word.startswith("I'"):
        return [full[:1].upper() + full[1:]]
    return [in_case_of(word.replace("'", ""), full)]
