"""Searches: the order of trying words, and which candidate to keep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, final

import numpy as np
from pydantic import PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.ranking import (
    ByDeleting,
    ByGradient,
    ByHiding,
    ByWeightedSaliency,
    Ranking,
    reaches,
)
from robustness.testsets.example import Example


@final
class GreedyWordRanking:
    """Ranks the words once, then keeps each word's best edit in that order.

    The search of DeepWordBug (arXiv 1801.04354) and of TextAttack's GreedyWordSwapWIR.
    """

    def __init__(self, edits: WordEdits, ranking: Ranking) -> None:
        self._edits = edits
        self._ranking = ranking

    @property
    def access(self) -> Access:
        """Scores, or gradients if the ranking asks for them."""
        return self._ranking.access

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first word whose best edit reaches the objective."""
        best = example
        try:
            indices = yield from self._ranking.order(example, self._edits, rng)
            if not indices:
                return example
            clean: Answer = yield Losses([example])
            best_loss = float(clean.losses[0])
            for index in indices:
                candidates = by_text(self._edits.candidates(example, best, index, rng))
                if not candidates:
                    continue
                answer: Answer = yield Losses(candidates)
                winner = int(answer.losses.argmax())
                if answer.losses[winner] <= best_loss:
                    continue
                best, best_loss = candidates[winner], float(answer.losses[winner])
                if (yield from reaches(candidates, answer, winner)):
                    return best
        except BudgetExhausted:
            pass
        return best


def rank_by_hiding(
    edits: WordEdits, ranking: Literal["unknown-token", "weighted-saliency"], unknown_token: str
) -> GreedyWordRanking:
    """Ranks words by the loss's growth when hidden, then edits them one after the other."""
    by = ByWeightedSaliency if ranking == "weighted-saliency" else ByHiding
    return GreedyWordRanking(edits, by(unknown_token))


def rank_by_deleting(edits: WordEdits) -> GreedyWordRanking:
    """Ranks words by the loss's growth when deleted, then edits them one after the other."""
    return GreedyWordRanking(edits, ByDeleting())


def rank_by_gradient(edits: WordEdits) -> GreedyWordRanking:
    """Ranks words by the gradient's norm, then edits them one after the other."""
    return GreedyWordRanking(edits, ByGradient())


@final
class Greedy:
    """Tries every edit of every word, keeps the best, then repeats with the unchanged words.

    TextAttack's GreedySearch: keeps a round's best even if it is worse than the text before.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits) -> None:
        self._edits = edits

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first round whose best candidate reaches the objective, or when no word is left to edit."""
        best = example
        open_words = self._edits.constraints.changeable(example)
        try:
            while True:
                edited = dict.fromkeys(c for i in open_words for c in self._edits.candidates(example, best, i, rng))
                if not edited:
                    return best
                candidates = by_text(edited)
                answer: Answer = yield Losses(candidates)
                winner = int(answer.losses.argmax())
                best = candidates[winner]
                if (yield from reaches(candidates, answer, winner)):
                    return best
                open_words = [i for i in open_words if best.words[i] == example.words[i]]
        except BudgetExhausted:
            return best


@final
class BestOfEachWord:
    """Tries all edits of each word of the clean text, then applies each word's best, the most harmful first.

    The search of CLARE (arXiv 2009.07502): measures the harm of edits once, on the clean text. It then applies edits
    one after the other until the objective is reached. Among edits of one word it applies only the most harmful.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits) -> None:
        self._edits = edits

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first text that reaches the objective."""
        best = example
        found: list[tuple[float, Example, bool | None]] = []
        try:
            for index in self._edits.constraints.changeable(example):
                candidates = by_text(self._edits.candidates(example, example, index, rng))
                if not candidates:
                    continue
                answer: Answer = yield Losses(candidates)
                winner = int(answer.losses.argmax())
                free = None if answer.free_reached is None else bool(answer.free_reached[winner])
                found.append((float(answer.losses[winner]), candidates[winner], free))
                best = max(found, key=lambda each: each[0])[1]
            current = example
            for _, edited, is_reached in sorted(found, key=lambda each: -each[0]):
                candidate = self._add(example, current, edited)
                if candidate is None:
                    continue
                if candidate != edited:  # asked about the first above
                    answer = yield Losses([candidate])
                    is_reached = yield from reaches([candidate], answer, 0)
                elif is_reached is None:
                    answer = yield [candidate]
                    is_reached = bool(answer.reached[0])
                current = best = candidate
                if is_reached:
                    return best
        except BudgetExhausted:
            pass
        return best

    def _add(self, clean: Example, current: Example, edited: Example) -> Example | None:
        """Returns `current` with the edit that turns the clean text into `edited`, or None if it is not allowed."""
        touched = [i for i, word in enumerate(edited.words) if word != clean.words[i]]
        removed = [i for i in touched if edited.words[i] == ""]
        if removed:  # a merge of two words: the first may be unchanged
            touched = [removed[0] - 1, removed[0]]
        if any(current.words[i] != clean.words[i] for i in touched):
            return None
        index = touched[0]
        word = edited.words[index]
        candidate = current.merge_words(index, word) if removed else current.replace_word(index, word)
        constraints = self._edits.constraints
        is_allowed = constraints.allows(clean, candidate) and constraints.similar(clean, [candidate], index)
        return candidate if is_allowed else None


@final
class RandomOrder:
    """Edits words in random order, one random transformation each; keeps every edit and ignores losses.

    Starts over from the clean text `passes` times; returns the first candidate that reaches the objective. This is
    the baseline for greedy searches: the same edits and as many queries, but random choices.
    """

    access = Access.SCORES

    def __init__(self, edits: WordEdits, passes: PositiveInt) -> None:
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
                answer: Answer = yield Losses([current])
                if (yield from reaches([current], answer, 0)):
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


def by_text(candidates: Iterable[Example]) -> list[Example]:
    """Returns the candidates sorted by text: TextAttack keeps the first in this order among equal losses."""
    return sorted(candidates, key=lambda candidate: candidate.texts)
