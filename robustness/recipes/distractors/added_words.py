"""Added words beside a text, searched place by place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from robustness.engine.attack import Access, Answer, BudgetExhausted, Losses, Search
from robustness.recipes.distractors.common_words import COMMON_WORDS
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.recipes.text.ranking import worst_reached
from robustness.tasks.answer_scores import normalised_tokens
from robustness.testsets.example import Example
from robustness.testsets.generation import put_beside

Words = tuple[str, ...]


@final
class AddWords:
    """Puts words beside the last open segment and replaces them one by one with the word of the largest loss.

    Candidates are common words, words of the other segments (of the question, beside its paragraph) and, on request,
    the segment's most frequent content words. None is part of a gold answer. The search runs first on one set of
    words, then on it and further sets side by side.

    Source: AddAny of arXiv 1707.07328, section 3.3; with `paragraph_words` AddAnyExtend.

    Args:
        words: how many.
        candidates: common words drawn for each place, in addition to words of the other segments.
        epochs: passes over all places before the restarts, and again with them.
        restarts: further sets of words, searched side by side.
        paragraph_words: how many of the segment's most frequent content words are candidates too.
        place: of the words, beside the segment.
    """

    access = Access.SCORES

    def __init__(
        self,
        words: PositiveInt,
        candidates: PositiveInt,
        epochs: PositiveInt,
        restarts: NonNegativeInt,
        paragraph_words: NonNegativeInt = 0,
        *,
        place: Literal["before", "after"],
    ) -> None:
        self._words = words
        self._candidates = candidates
        self._epochs = epochs
        self._restarts = restarts
        self._paragraph_words = paragraph_words
        self._place = place

    def search(self, example: Example, rng: np.random.Generator) -> Search:
        """Stops at the first question with a candidate that reaches the objective."""
        common, fixed = _vocabulary(example, self._paragraph_words)
        beams = [_draw(common, self._words, rng)]
        best, best_loss = self._write(example, beams[0]), -np.inf
        try:
            for beam_count in (1, 1 + self._restarts):
                beams += [_draw(common, self._words, rng) for _ in range(beam_count - len(beams))]
                for _ in range(self._epochs):
                    for place in rng.permutation(self._words):
                        forms = [_forms(beam, int(place), common, fixed, self._candidates, rng) for beam in beams]
                        asked = [self._write(example, words) for each in forms for words in each]
                        answer: Answer = yield Losses(asked)
                        if (reached := (yield from worst_reached(asked, answer, answer.losses))) is not None:
                            return asked[reached]
                        beams = _largest(forms, answer.losses)
                        if answer.losses.max() > best_loss:
                            best, best_loss = asked[int(answer.losses.argmax())], float(answer.losses.max())
        except BudgetExhausted:
            pass
        return best

    def _write(self, example: Example, words: Words) -> Example:
        return put_beside(example, example.attacked[-1], " ".join(words), self._place)


def _largest(forms: Sequence[Sequence[Words]], losses: NDArray[np.float64]) -> list[Words]:
    """The form of each set of words with the largest loss; `losses` has those of all forms in order."""
    found, start = [], 0
    for each in forms:
        found.append(each[int(losses[start : start + len(each)].argmax())])
        start += len(each)
    return found


def _vocabulary(example: Example, frequent: int) -> tuple[list[str], list[str]]:
    """Common words, and the example's words to try at every place, without words of an answer."""
    taken = {token for answer in example.answers for token in normalised_tokens(answer.text)}

    def allowed(words: Iterable[str]) -> list[str]:
        return [w for w in dict.fromkeys(words) if (t := normalised_tokens(w)) and not taken.intersection(t)]

    own = example.attacked[-1]
    others = (word for n, text in enumerate(example.texts) if n != own for word in text.split())
    common = [word for word in COMMON_WORDS if not taken.intersection(normalised_tokens(word))]
    content = (t for t in normalised_tokens(example.texts[own]) if t not in FUNCTION_WORDS and not t.isdigit())
    most = [word for word, _ in Counter(content).most_common(frequent)]
    return common, allowed([word.strip("?.,;:!\"'()").lower() for word in others] + most)


def _draw(words: Sequence[str], count: int, rng: np.random.Generator) -> Words:
    return tuple(words[index] for index in rng.integers(len(words), size=count))


def _forms(
    beam: Words, place: int, common: Sequence[str], fixed: Sequence[str], count: int, rng: np.random.Generator
) -> list[Words]:
    """The beam with another word at one place; the unchanged form comes first, so that the loss never falls."""
    drawn = (common[index] for index in rng.choice(len(common), size=min(count, len(common)), replace=False))
    words = dict.fromkeys([beam[place], *drawn, *fixed])
    return [(*beam[:place], word, *beam[place + 1 :]) for word in words]
