"""Input reduction: deletes words while the prediction stays."""

from __future__ import annotations

from typing import final

import numpy as np

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.ranking import delete_word, reaches
from robustness.testsets.example import Example


@final
class GreedyReduction:
    """Deletes words, the least important first, and keeps each deletion that still reaches the objective.

    The objective is an unchanged prediction. A word is less important if the model is surer without it (arXiv
    1804.07781). Words are ranked once, as in TextAttack's GreedyWordSwapWIR. Deletions known to miss the objective
    come last, where this costs nothing.

    Args:
        constraints: which words may be deleted.
        words_left: the search ends at a text of this many words.
    """

    access = Access.SCORES

    def __init__(self, constraints: Constraints, words_left: int) -> None:
        self._constraints = constraints
        self._words_left = words_left

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Proposes the shortest text found; draws nothing."""
        del rng
        current = example
        indices = self._constraints.changeable(example)
        if not indices or len(example.words) <= self._words_left:
            return example
        left = list(range(len(example.words)))
        try:
            answer: Answer = yield Losses([delete_word(example, index) for index in indices])
            losses = answer.losses
            if answer.free_reached is not None:
                losses = np.where(answer.free_reached, losses, np.inf)
            for index in (indices[i] for i in np.argsort(losses, kind="stable")):
                candidate = delete_word(current, left.index(index))
                answer = yield Losses([candidate])
                if not (yield from reaches([candidate], answer, 0)):
                    continue
                current = candidate
                left.remove(index)
                if len(left) <= self._words_left:
                    break
        except BudgetExhausted:
            pass
        return current
