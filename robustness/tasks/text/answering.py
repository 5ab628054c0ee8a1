"""How a task's responses are generated and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from robustness.errors import RobustnessError
from robustness.tasks.text.metrics import Scorer, TextScore
from robustness.tasks.text.numbers import NumberParser, NumberRule
from robustness.tasks.text.parsed import ParsedAnswer, Parser
from robustness.tasks.text.parsers import PARSERS
from robustness.tasks.text.plugins import PARSERS_GROUP, find_plugin


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """How a task's file defines responses to its prompt, their parsing and their score.

    >>> answer = TextAnswer("number", "fraction")
    >>> answer.score("it makes 18.0", ["#### 18"])
    TextScore(correct=True, quality=1.0)
    """

    parser: str
    """A name in PARSERS, or a plug-in's name."""
    metric: str
    """A name in TextMetric, or a plug-in's name."""
    threshold: float | None = None
    """The least quality of a correct answer; None: the metric's match."""
    marker: str | None = None
    rule: NumberRule | None = None
    pattern: str | None = None
    """Options of the parser; None: its default."""
    max_new_tokens: int = 128
    """Maximum length of a response; longer responses are cut."""
    stop: tuple[str, ...] = ()
    """A response ends before the first of these."""
    lead: str = ""
    """Text between prompt and gold text, such as a blank."""
    code: str = ""
    """A digest of the plug-ins' sources; empty without any."""

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the answer in a response; None without an answer."""
        return _build(self.parser, self.marker, self.rule, self.pattern).parse(response)

    def score(self, response: str, golds: Sequence[str]) -> TextScore:
        """Returns a response's score against the best-fitting gold text that can be parsed.

        Raises:
            UsageError: a library of the metric is not installed.
        """
        return Scorer(self.metric, self.threshold).score(self.parse(response), self.parse_golds(golds))

    def score_by_rule(
        self, response: str, golds: Sequence[str]
    ) -> dict[NumberRule, tuple[ParsedAnswer | None, TextScore]]:
        """Returns each rule's answer in a response, and its score.

        The task's own rule parses the gold texts. Other parsers have no rules and give nothing.

        >>> answer = TextAnswer("number", "fraction")
        >>> found = answer.score_by_rule("#### 18 eggs, so 20 are left", ["#### 18"])
        >>> {rule.value: score.correct for rule, (_, score) in found.items()}
        {'marked': True, 'last': False}
        """
        parser = _build(self.parser, self.marker, self.rule, self.pattern)
        if not isinstance(parser, NumberParser):
            return {}
        readings, scorer, parsed = parser.read(response), Scorer(self.metric, self.threshold), self.parse_golds(golds)
        found = {rule: readings.choose(rule) for rule in (NumberRule.MARKED, NumberRule.LAST)}
        return {rule: (said, scorer.score(said, parsed)) for rule, said in found.items()}

    def parse_golds(self, golds: Sequence[str]) -> list[ParsedAnswer]:
        """Returns the gold answers that can be parsed."""
        parsed = (self.parse(self.lead + gold) for gold in golds)
        return [answer for answer in parsed if answer is not None]

    def unreadable(self, gold: str) -> str | None:
        """Returns why no response could match a gold text, or None.

        A stop string within it is a reason, because a response ends there.
        """
        try:
            return self._unreadable(gold)
        except RobustnessError:
            raise
        except Exception as error:  # a plug-in may raise anything; a pattern may take too long
            reason = f"{type(error).__name__}: {error}"
            return f"parser {self.parser} or metric {self.metric} fails on the gold {_shown(gold)}: {reason}"

    def _unreadable(self, gold: str) -> str | None:
        whole = self.lead + gold
        stop = next((stop for stop in self.stop if stop in whole), None)
        if stop is not None:
            return f"the gold answer {_shown(gold)} holds the stop string {stop!r}; take the string out of stop"
        if self.parse(whole) is None:
            return f"the parser {self.parser} finds no answer in the gold {_shown(gold)}; mend either"
        if not self.score(whole, [gold]).correct:
            return f"the gold answer {_shown(gold)} is not right by the metric {self.metric}; mend either"
        return None


@cache
def _build(name: str, marker: str | None, rule: NumberRule | None, pattern: str | None) -> Parser:
    if name not in PARSERS:
        return find_plugin(PARSERS_GROUP, name)
    options = {"marker": marker, "rule": rule, "pattern": pattern}
    return PARSERS[name](**{key: value for key, value in options.items() if value is not None})


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]}...{text[-27:]}")
