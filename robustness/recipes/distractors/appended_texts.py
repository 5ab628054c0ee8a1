"""Distractors: appended texts that say nothing about the gold."""

from __future__ import annotations

import string
from typing import final

import numpy as np
from pydantic import NonNegativeInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.ranking import reaches
from robustness.testsets.example import Example

_ALPHABET = string.ascii_letters + string.digits


@final
class Append:
    """Appends each distractor to each open segment and keeps the candidate of the largest loss.

    Args:
        texts: distractors to try on every example.
        handles: how many random user names (@ and six characters) to try, as in CheckList (arXiv 2005.04118).
        links: how many random short links to try.
    """

    access = Access.SCORES

    def __init__(self, texts: tuple[str, ...], *, handles: NonNegativeInt, links: NonNegativeInt) -> None:
        self._texts = texts
        self._handles = handles
        self._links = links

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Asks about one candidate at a time; stops at the first that reaches the objective."""
        distractors = [
            *self._texts,
            *(f"@{_random_name(rng)}" for _ in range(self._handles)),
            *(f"https://t.co/{_random_name(rng)}" for _ in range(self._links)),
        ]
        candidates = [_appended(example, segment, text) for segment in example.attacked for text in distractors]
        best, best_loss = example, -np.inf
        try:
            for candidate in candidates:
                answer: Answer = yield Losses([candidate])
                if (yield from reaches([candidate], answer, 0)):
                    return candidate
                if answer.losses[0] > best_loss:
                    best, best_loss = candidate, float(answer.losses[0])
        except BudgetExhausted:
            pass
        return best


def _appended(example: Example, segment: int, distractor: str) -> Example:
    texts = list(example.texts)
    texts[segment] = f"{texts[segment]} {distractor}" if texts[segment] else distractor
    return example.with_texts(texts)


def _random_name(rng: np.random.Generator) -> str:
    return "".join(_ALPHABET[place] for place in rng.integers(len(_ALPHABET), size=6))
