"""Exact match and F1 of an answer by SQuAD's official rules."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from robustness.tasks.gold import GoldSpan


@lru_cache(maxsize=100_000)
def normalised_tokens(text: str) -> tuple[str, ...]:
    """The words that SQuAD's scorer compares: lower case, without punctuation and articles (arXiv 1606.05250).

    >>> normalised_tokens("The Broncos' win!")
    ('broncos', 'win')
    """
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return tuple(re.sub(r"\b(a|an|the)\b", " ", bare).split())


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """The scores of one answer against the best-fitting gold answer; fractions."""

    exact_match: float
    f1: float


def score_answer(answer: str, golds: Sequence[GoldSpan]) -> AnswerScore:
    """Returns exact match and token F1, each the largest over the gold answers (arXiv 1606.05250).

    Case, punctuation, articles and blanks do not count. The rules are torchmetrics'.

    >>> score_answer("the Broncos", [GoldSpan("Denver Broncos", 0), GoldSpan("Broncos", 7)])
    AnswerScore(exact_match=1.0, f1=1.0)
    >>> round(score_answer("Denver", [GoldSpan("Denver Broncos", 0)]).f1, 3)
    0.667
    """
    return _score(answer, tuple(gold.text for gold in golds))


@lru_cache(maxsize=50_000)  # the texts of a search share a few likely answers
def _score(answer: str, golds: tuple[str, ...]) -> AnswerScore:
    from torchmetrics.functional.text import squad  # takes seconds to import

    references: dict[str, list[str] | list[int]] = {"text": list(golds), "answer_start": [0] * len(golds)}
    scores = squad([{"prediction_text": answer, "id": "0"}], [{"answers": references, "id": "0"}])
    # Two answers without words share none: 0 in SQuAD v1.1, 1 in torchmetrics.
    f1 = float(scores["f1"]) / 100 if normalised_tokens(answer) else 0.0
    return AnswerScore(float(scores["exact_match"]) / 100, f1)
