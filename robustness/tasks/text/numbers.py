"""Numbers in a text, exactly: signs, thousands, decimals, fractions, mixed numbers, and words for no answer."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import final

from robustness.tasks.text.parsed import ParsedAnswer

LONGEST = 100
"""Maximum digits of a number; longer ones are not read as numbers."""
LARGEST_EXPONENT = 100

UNANSWERABLE = ParsedAnswer("none", ("none",))
"""The answer "the question has no answer"."""

# From Hebrew to Hangul, without Georgian and Cherokee: scripts whose letters have no case.
_CASELESS = (
    "\u0590-\u109f\u1100-\u139f\u1400-\u1c7f\u2e80-\ua63f\ua800-\ua8ff\ua960-\uab2f\uabc0-\ufaff"
    "\ufb1d-\ufeff\uff66-\uffdc\U00020000-\U0003ffff"
)
_IN_WORD = rf"[^\W{_CASELESS}]"
"""What makes one word with the digits or letters beside it; a script without case often writes no blanks."""
_HAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
"""Han, kana and Hangul. Other scripts without case write blanks, and a hyphen behind a prefix, as in Hebrew."""
# Possessive or bounded everywhere, so that any text is scanned only a few times.
_READING = re.compile(
    rf"""
      (?P<none>(?<!{_IN_WORD})(?i:none|unknown|undetermined
        |(?:cannot|can't|can\ not|could\ not)\ be\ (?:determined|answered|known)
        |not\ enough\ information|insufficient\ information)(?!{_IN_WORD}))
    | (?P<sign>(?<![^\W{_HAN}])(?<![)\]}}%.\uff09\u3011])[-+\u2212\uff0d])?  # behind a bracket it subtracts
      (?:\\?[$\u20ac\u00a3\u00a5\u20b9]\s?(?P<inner>[-\u2212\uff0d])?)?
      (?<!{_IN_WORD})(?<!\d)(?<!\d[/\u2044])              # a part of a name, or of a date, is no number
      (?:
          (?P<whole>\d++)\ (?P<part>\d++)[/\u2044](?P<of>\d++)(?![/\u2044.]\d)
        | (?P<digits>\d{{1,3}}(?:,\d{{3}}){{1,33}}+(?!\d)|\d++)?(?P<decimals>(?<![.\uff0e])[.\uff0e]\d++)?
          (?(digits)|(?(decimals)|(?!)))                 # one of them at least
          (?:[eE](?P<exponent>[-+]?\d++)(?![eE]))?
          (?:[/\u2044](?P<denominator>\d++)(?![/\u2044.]\d))?
      )
    """,
    re.VERBOSE,
)
_UNIT = re.compile(rf"[{_HAN}]+")
"""Between a number and a hyphen, which then subtracts or makes a range."""
_VULGAR = {
    ord(sign): f" {value}"
    for sign, value in zip(
        "\u00bd\u2153\u2154\u00bc\u00be\u2155\u2156\u2157\u2158\u2159\u215a\u215b\u215c\u215d\u215e",
        ["1/2", "1/3", "2/3", "1/4", "3/4", "1/5", "2/5", "3/5", "4/5", "1/6", "5/6", "1/8", "3/8", "5/8", "7/8"],
        strict=True,
    )
}


class NumberRule(StrEnum):
    """The rule that selects a response's number."""

    MARKED = "marked"
    """The first one after the first marker; no answer without a marker."""
    LAST = "last"
    """The last one of the response."""
    MARKED_OR_LAST = "marked-or-last"
    """The marked one if there is one, otherwise the last."""


@dataclass(frozen=True, slots=True)
class NumberReadings:
    """The two rules' answers in one response."""

    marked: ParsedAnswer | None
    last: ParsedAnswer | None

    def choose(self, rule: NumberRule) -> ParsedAnswer | None:
        """Returns the answer by a rule."""
        if rule is NumberRule.LAST or (rule is NumberRule.MARKED_OR_LAST and self.marked is None):
            return self.last
        return self.marked


@final
@dataclass(frozen=True, slots=True)
class NumberParser:
    r"""The last number of a response, or the number after a marker.

    Rules: units do not count, including currency signs and the percent sign (50 % is 50, as in gold answers). Commas
    separate thousands in groups of three, and lists otherwise. A sign counts if it touches a number or its currency
    sign and there is nothing before it to subtract from. In Chinese that may be a number with its unit. `a/b` without
    blanks is a fraction, and `w a/b` with a < b is a mixed number. A slash between blanks is a division.
    Digits after a letter are part of a name, except after letters without case, as in Chinese. Words such as "None"
    or "cannot be determined" are the answer UNANSWERABLE; they count in the order of the numbers.

    Source: the marker is GSM8K's (arXiv 2110.14168), the answer "None" GSM-Plus's (arXiv 2402.19255).

    >>> NumberParser().parse("16 - 3 - 4 = 9 eggs, 9 * $2 = $18.0 a day\n#### 18").text
    '18'
    >>> NumberParser().parse("So he has 1 1/2 pies.").number
    Fraction(3, 2)
    """

    marker: str = "####"
    rule: NumberRule = NumberRule.MARKED_OR_LAST

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the number or UNANSWERABLE; None without either."""
        return self.read(response).choose(self.rule)

    def read(self, response: str) -> NumberReadings:
        """Returns each rule's answer."""
        _, found, behind = response.partition(self.marker) if self.marker else ("", "", "")
        last = deque(find_numbers(response), maxlen=1)
        return NumberReadings(next(find_numbers(behind), None) if found else None, last[0] if last else None)


def find_numbers(text: str) -> Iterator[ParsedAnswer]:
    """Yields the numbers of a text, and the words for "no answer", in reading order.

    >>> [answer.text for answer in find_numbers("-$1,080.50, 1/3 and 3 in 2 1/4")]
    ['-2161/2', '1/3', '3', '9/4']
    """
    text, end = text.translate(_VULGAR), 0
    for match in _READING.finditer(text):
        unit = text[end : match.start()] if end else ""
        end = match.end()
        if match["none"]:
            yield UNANSWERABLE
            continue
        for number in _values(match, is_signed=_UNIT.fullmatch(unit) is None):
            yield ParsedAnswer(str(number), (str(number),), number)


def _values(match: re.Match[str], *, is_signed: bool) -> Iterator[Fraction]:
    if any(len(group.replace(",", "")) > LONGEST for group in match.groups("")):
        return
    negative = ((is_signed and match["sign"]) or match["inner"] or "+") != "+"
    if match["whole"]:
        part, of = int(match["part"]), int(match["of"])
        whole = Fraction(int(match["whole"]))
        values = [whole + Fraction(part, of)] if part < of else [whole, *([Fraction(part, of)] if of else [])]
        yield from (-values[0] if negative else values[0], *values[1:])
        return
    digits, decimals = (match["digits"] or "0").replace(",", ""), (match["decimals"] or ".")[1:]
    value = Fraction(int(digits + decimals), 10 ** len(decimals))
    exponent, denominator = int(match["exponent"] or 0), int(match["denominator"] or 1)
    if abs(exponent) > LARGEST_EXPONENT or denominator == 0:
        return
    value = value * Fraction(10) ** exponent / denominator
    yield -value if negative else value
