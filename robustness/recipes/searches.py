"""Searches: in which order words are tried, and which candidate is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from robustness.engine.attack import Access, BudgetExhausted, Search
from robustness.engine.referee import log_probabilities
from robustness.recipes.constraints import Constraints
from robustness.recipes.transformations import Transformation
from robustness.testsets.example import Example


@dataclass(frozen=True, slots=True)
class WordEdits:
    """The candidates of a recipe: its transformations under its constraints."""

    transformations: Sequence[Transformation]
    constraints: Constraints

    def candidates(self, clean: Example, current: Example, index: int, rng: np.random.Generator) -> list[Example]:
        """Returns the distinct allowed forms of `current` with word `index` transformed, in order."""
        word = current.words[index]
        forms = dict.fromkeys(form for edit in self.transformations for form in edit(word, rng))
        edited = [current.replace_word(index, form) for form in forms]
        return [candidate for candidate in edited if self.constraints.allows(clean, candidate)]


@final
class GreedyWordRanking:
    """Ranks the words once by how much hiding each hurts, then keeps each word's best edit in that order.

    The search of DeepWordBug (arXiv 1801.04354) and of TextAttack's GreedyWordSwapWIR.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits, unknown_token: str) -> None:
        self._edits = edits
        self._unknown_token = unknown_token

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first word whose best edit flips the label."""
        indices = self._edits.constraints.changeable(example)
        best, best_loss = example, -np.inf
        try:
            if indices:
                hidden = yield [example.replace_word(i, self._unknown_token) for i in indices]
                clean = yield [example]
                best_loss = float(_loss(clean, example.label)[0])
                order = np.argsort(-_loss(hidden, example.label), kind="stable")
                indices = [indices[i] for i in order]
            for index in indices:
                candidates = self._edits.candidates(example, best, index, rng)
                if not candidates:
                    continue
                rows = yield candidates
                losses = _loss(rows, example.label)
                winner = int(losses.argmax())
                if losses[winner] <= best_loss:
                    continue
                best, best_loss = candidates[winner], float(losses[winner])
                if int(rows[winner].argmax()) != example.label:
                    return best
        except BudgetExhausted:
            pass
        return best


@final
class RandomOrder:
    """Edits words in random order, one random transformation each, keeping every edit and ignoring scores.

    Starts over from the clean text `passes` times; returns the first candidate that flips the label. The
    baseline for greedy searches: the same edits and as many queries, without their choice of words and edits.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits, passes: int) -> None:
        self._edits = edits
        self._passes = passes

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Draws the order, then the edit of each word, from `rng` alone."""
        current = example
        for _ in range(self._passes):
            current = example
            for index in rng.permutation(self._edits.constraints.changeable(example)):
                candidates = self._edits.candidates(example, current, int(index), rng)
                if not candidates:
                    continue
                current = candidates[int(rng.integers(len(candidates)))]
                rows = yield [current]
                if int(rows[0].argmax()) != example.label:
                    return current
        return current


@final
class ReturnClean:
    """Proposes the clean text: the identity."""

    access = Access.SCORES

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Asks nothing."""
        del rng
        return example
        yield  # makes this a generator


def _loss(rows: NDArray[np.float32], label: int) -> NDArray[np.float64]:
    """Minus the log-probability of the true label, shape (candidates,)."""
    return -log_probabilities(rows)[:, label]
