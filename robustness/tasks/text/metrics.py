"""Metrics by name: an answer's quality in [0, 1], and whether it counts as correct."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any, final

from robustness.errors import UsageError
from robustness.tasks.answer_scores import score_answer
from robustness.tasks.gold import GoldSpan
from robustness.tasks.text.meaning import slot_f1
from robustness.tasks.text.parsed import ParsedAnswer
from robustness.tasks.text.plugins import METRICS_GROUP, find_plugin


class TextMetric(StrEnum):
    """The comparison of parsed answers."""

    EXACT = "exact"
    FRACTION = "fraction"
    """For numbers: equal as fractions, so 18.0 is 18 and 2/6 is 1/3; 4.33 is not 13/3."""
    SET = "set"
    """For lists, ignoring order and repetition; quality is F1 over the items."""
    TOKEN_F1 = "token-f1"
    """By SQuAD's rules (arXiv 1606.05250)."""
    SLOT_F1 = "slot-f1"
    """For meaning representations; quality is F1 over the slots, correct is an exact match."""
    ROUGE_L = "rouge-l"
    """F1 of the longest common subsequence (Lin 2004), by the library rouge-score."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """The score of one answer."""

    correct: bool
    quality: float
    """In [0, 1]."""


WRONG = TextScore(correct=False, quality=0.0)
"""The score of a response without a parsed answer."""


@final
@dataclass(frozen=True, slots=True)
class Scorer:
    """A metric, and the least quality of a correct answer.

    >>> Scorer(TextMetric.EXACT).score(ParsedAnswer("18"), [ParsedAnswer("17"), ParsedAnswer("18")])
    TextScore(correct=True, quality=1.0)
    """

    metric: str
    """A name in TextMetric, or a plug-in's name."""
    threshold: float | None = None
    """None: correct is the metric's match; for ROUGE-L and plug-ins a quality of 1."""

    def score(self, said: ParsedAnswer | None, golds: Sequence[ParsedAnswer]) -> TextScore:
        """Returns the best score over the gold answers; a missing answer is wrong.

        Raises:
            UsageError: a plug-in or a library of the metric is not installed.
        """
        if said is None:
            return WRONG
        compare = _SCORES.get(self.metric) or _offered(self.metric)
        scores = [compare(said, gold) for gold in golds]
        if self.threshold is not None:
            scores = [TextScore(score.quality >= self.threshold, score.quality) for score in scores]
        return max(scores, key=lambda score: (score.correct, score.quality), default=WRONG)


def _exact(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
    equal = said.text == gold.text  # for numbers too: a fraction in lowest terms has one text
    return TextScore(equal, float(equal))


def _set(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
    ours, theirs = set(said.items), set(gold.items)
    total = len(ours) + len(theirs)
    return TextScore(ours == theirs, 2 * len(ours & theirs) / total if total else 1.0)


def _token_f1(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
    score = score_answer(said.text, [GoldSpan(gold.text, 0)])
    return TextScore(score.exact_match == 1, score.f1)


def _slot_f1(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
    assert said.meaning is not None and gold.meaning is not None, "a task file pairs slot-f1 with its parser"
    return TextScore(said.text == gold.text, slot_f1(said.meaning, gold.meaning))


def _rouge_l(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
    quality = float(_rouge().score(gold.text, said.text)["rougeL"].fmeasure)
    return TextScore(quality == 1, quality)


def _offered(name: str) -> Callable[[ParsedAnswer, ParsedAnswer], TextScore]:
    plugin = find_plugin(METRICS_GROUP, name)

    def compare(said: ParsedAnswer, gold: ParsedAnswer) -> TextScore:
        quality = plugin.rate(said, gold)
        return TextScore(quality == 1, quality)

    return compare


@cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UsageError(
            "metric rouge-l: the library rouge-score is not installed; pip install 'peft-robustness[rouge]', or use "
            "the metric token-f1"
        ) from None
    return RougeScorer(["rougeL"], use_stemmer=False)


_SCORES: Mapping[str, Callable[[ParsedAnswer, ParsedAnswer], TextScore]] = MappingProxyType(
    {
        TextMetric.EXACT: _exact,
        TextMetric.FRACTION: _exact,
        TextMetric.SET: _set,
        TextMetric.TOKEN_F1: _token_f1,
        TextMetric.SLOT_F1: _slot_f1,
        TextMetric.ROUGE_L: _rouge_l,
    }
)

PARSER_OF: Mapping[str, str] = MappingProxyType(
    {TextMetric.FRACTION: "number", TextMetric.SLOT_F1: "meaning-representation"}
)
"""The only parser whose answers a metric accepts; other metrics accept any."""
