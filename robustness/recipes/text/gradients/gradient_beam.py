"""HotFlip's search: a beam of texts, extended by the most promising substitutions by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
from pydantic import PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Gradients, Losses, Search
from robustness.errors import AttackError
from robustness.recipes.text.constraints import Constraints
from robustness.recipes.text.edits import WordEdits
from robustness.recipes.text.gradients.flips import Flips, TokenFlips, WordFlips
from robustness.recipes.text.ranking import worst_reached
from robustness.testsets.example import Example
from robustness.victims.heads.text_gradients import TextGradient


@final
class GradientBeam:
    """Beam search over substitutions (arXiv 1712.06751).

    Each round takes one gradient at each text of the beam and asks for the losses of its `width` most promising
    substitutions. It keeps the `width` candidates of the largest loss. It stops at the first round with a candidate
    that reaches the objective, so more flips never find less.

    Args:
        flips: the source of candidates.
        width: texts in the beam, and substitutions of each to ask about.
        max_flips: rounds.
    """

    access = Access.GRADIENTS

    def __init__(self, flips: Flips, *, width: int, max_flips: int) -> None:
        self._flips = flips
        self._width = width
        self._max_flips = max_flips

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Returns the first text that reaches the objective, or else the text of the largest loss."""
        beam, best, best_loss = [example], example, -np.inf
        try:
            for _ in range(self._max_flips):
                gradients: Sequence[TextGradient] = yield Gradients(beam)
                found: dict[tuple[str, ...], Example] = {}
                for text, gradient in zip(beam, gradients, strict=True):
                    for candidate in self._flips.best(example, text, gradient, self._width, rng):
                        found.setdefault(candidate.texts, candidate)
                if not found:
                    return best
                candidates = list(found.values())
                answer: Answer = yield Losses(candidates)
                losses = answer.losses
                if (reached := (yield from worst_reached(candidates, answer, losses))) is not None:
                    return candidates[reached]
                beam = [candidates[i] for i in np.argsort(-losses, kind="stable")[: self._width]]
                if losses.max() > best_loss:
                    best, best_loss = beam[0], float(losses.max())
        except BudgetExhausted:
            pass
        return best


def beam_of_flips(
    edits: WordEdits, flips: Literal["words", "vocabulary"], width: PositiveInt, max_flips: PositiveInt
) -> GradientBeam:
    """Extends a beam of texts by the most promising substitutions by gradient.

    Args:
        edits: the replacements of words.
        flips: "words": words become what the edits give; "vocabulary": tokens become any token of the victim.
        width: texts in the beam, and substitutions of each to ask about.
        max_flips: rounds.

    Raises:
        AttackError: edits or constraints are given, which flips of the vocabulary ignore.
    """
    if flips == "words":
        return GradientBeam(WordFlips(edits), width=width, max_flips=max_flips)
    if edits.transformations or edits.in_context or edits.constraints != Constraints():
        raise AttackError(
            '[search]: flips = "vocabulary" makes its candidates itself; leave [[transformations]] and '
            "[[constraints]] out"
        )
    return GradientBeam(TokenFlips(), width=width, max_flips=max_flips)
