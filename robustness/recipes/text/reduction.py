"""Input reduction: the prediction stays while words go."""

from __future__ import annotations

from typing import final

import numpy as np

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.ranking import delete_word, reaches
from robustness.testsets.example import Example


@final
class GreedyReduction:
    """Deletes words, the least important first, keeping each deletion after which the objective is still reached.

    The objective is a kept prediction. A word is the less important, the surer the model is without it (arXiv
    1804.07781); words are ranked once, as TextAttack's GreedyWordSwapWIR does, those whose loss misses it last where
    that is known at no cost.

    Args:
        constraints: which words may go.
        words_left: the search ends at a text of so many words.
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
