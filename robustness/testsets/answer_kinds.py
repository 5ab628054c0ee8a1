"""Kinds of answers, by rule, and fake answers of the same kind."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache

import numpy as np

from robustness.tasks.answer_scores import normalised_tokens

_MONTHS_TEXT = """
january february march april may june july august september october november december
"""
MONTHS = _MONTHS_TEXT.split()
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBER_WORDS_TEXT = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
trillion dozen half third quarter first second fourth fifth sixth seventh eighth ninth tenth
"""
NUMBER_WORDS = frozenset(_NUMBER_WORDS_TEXT.split())
_SMALL_WORDS_TEXT = """
a an the of and in on at for to de la le von van der du da di del
"""
SMALL_WORDS = frozenset(_SMALL_WORDS_TEXT.split())
_YEAR = re.compile(r"(?:(?:in|by|around|about|circa|late|early|mid)\s+)*(?:1\d{3}|20\d{2})s?(?:\s+(?:AD|BC|CE|BCE))?")
_MONEY = re.compile(r"[$€£¥]|\b(?:dollars?|euros?|pounds?|yen|cents?)\b", re.IGNORECASE)
_PERCENT = re.compile(r"%|\bper\s?cent\b|\bpercent\b", re.IGNORECASE)


class AnswerKind(StrEnum):
    """The property that a fake answer shares with the true one."""

    YEAR = "year"
    DATE = "date"
    PERCENT = "percent"
    MONEY = "money"
    NUMBER = "number"
    NAME = "name"
    PHRASE = "phrase"


FAKES: dict[AnswerKind, tuple[str, ...]] = {
    AnswerKind.YEAR: ("1723", "1848", "1911", "1967", "1984", "2003"),
    AnswerKind.DATE: ("March 9", "October 23, 1931", "August 4", "the 13th century"),
    AnswerKind.PERCENT: ("17%", "42 percent", "63.5%"),
    AnswerKind.MONEY: ("$75,000", "$3.4 million", "12 pounds"),
    AnswerKind.NUMBER: ("seven", "19", "4,350", "28 miles"),
    AnswerKind.NAME: ("Jane Holloway", "Lisbon", "Wexford Society", "Lake Arlen", "Edgar Whitlock Finch"),
    AnswerKind.PHRASE: ("copper wire", "public gardens", "by changing the order of payments", "a lack of timber"),
}
"""Fake answers, used together with other questions' answers, or alone if there are none."""


@lru_cache(maxsize=100_000)
def kind_of(answer: str) -> AnswerKind:
    """Returns the kind of an answer, by its numbers, months and capitals.

    >>> [kind_of(answer).value for answer in ("1880", "May 5", "$12", "Tesla", "two", "gold plates")]
    ['year', 'date', 'money', 'name', 'number', 'phrase']
    """
    if _YEAR.fullmatch(answer.strip()):
        return AnswerKind.YEAR
    words = [word.strip(string.punctuation).lower() for word in answer.split()]
    has_digit = any(character.isdigit() for character in answer)
    if _PERCENT.search(answer):
        return AnswerKind.PERCENT
    if _MONEY.search(answer) and (has_digit or set(words) & NUMBER_WORDS):
        return AnswerKind.MONEY
    is_month = any(word in MONTHS for word in words) and (has_digit or len(words) == 1)
    if is_month or any(word in WEEKDAYS for word in words) or "century" in words or "centuries" in words:
        return AnswerKind.DATE
    if has_digit or (words and (words[0] in NUMBER_WORDS or words[0].split("-")[0] in NUMBER_WORDS)):
        return AnswerKind.NUMBER
    content = [word for word in answer.split() if word.lower() not in SMALL_WORDS]
    if content and all(word.lstrip(string.punctuation)[:1].isupper() for word in content):
        return AnswerKind.NAME
    return AnswerKind.PHRASE


def contains_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether the text contains one of the answers word for word, after SQuAD's normalisation.

    >>> contains_answer("He met the Broncos.", ["Broncos"]), contains_answer("Bronco", ["Broncos"])
    (True, False)
    """
    tokens = normalised_tokens(text)
    for answer in answers:
        wanted = normalised_tokens(answer)
        if wanted and any(tokens[i : i + len(wanted)] == wanted for i in range(len(tokens) - len(wanted) + 1)):
            return True
    return False


def fake_answer(golds: Sequence[str], pool: Sequence[str], context: str, rng: np.random.Generator) -> str | None:
    """Draws an answer of the first gold's kind that shares no word with any gold and is not in the paragraph.

    Prefers a number of words nearest to the gold's; None if no answer is possible.
    """
    kind, length = kind_of(golds[0]), len(golds[0].split())
    taken = {token for gold in golds for token in normalised_tokens(gold)}
    fitting = [
        fake
        for fake in dict.fromkeys([*pool, *FAKES[kind]])
        if kind_of(fake) is kind and not taken.intersection(normalised_tokens(fake)) and normalised_tokens(fake)
    ]
    draws = rng.permutation(len(fitting))
    nearest = sorted(draws, key=lambda index: abs(len(fitting[index].split()) - length))
    return next((fitting[index] for index in nearest if not contains_answer(context, [fitting[index]])), None)
