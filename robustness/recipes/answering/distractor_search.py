"""Coordinate search for words that, put beside a paragraph, make a victim answer wrongly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from robustness.definitions.testsets import DistractorSearch, GeneratedSet
from robustness.recipes.answering.common_words import COMMON_WORDS
from robustness.recipes.text.function_words import FUNCTION_WORDS
from robustness.tasks.answer_scores import normalised_tokens, score_answer
from robustness.testsets.example import Example, Texts
from robustness.testsets.generation import insert_distractor, question_generator
from robustness.victims.heads.spans import AnsweringVictim, Prediction

WIDTH = 32
"""Questions searched side by side; what is found does not depend on it."""

Words = tuple[str, ...]
Draw = np.random.Generator
"""Randomness that belongs to one question."""


@dataclass(frozen=True, slots=True)
class ExpectedScore:
    """What a victim's answers to one candidate are worth."""

    expected_f1: float
    """Mean F1 of its likeliest answers, weighted by their probabilities."""
    best_f1: float
    """F1 of the answer it gives."""


@dataclass(frozen=True, slots=True)
class Distractor:
    """The words found for one question."""

    example: Example
    """The question as it was handed in."""
    words: Words
    queries: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The words as one text."""
        return " ".join(self.words)


Question = Generator[Sequence[Words], Sequence[ExpectedScore], Words]


def search_distractors(
    victim: AnsweringVictim,
    examples: Iterable[Example],
    made: GeneratedSet,
    *,
    width: int = WIDTH,
    draw: Callable[[Example], Draw] | None = None,
) -> Iterator[Distractor]:
    """Yields the distractor of each question as its search ends; many searches share the victim's batches.

    Every search draws from (seed, generator, question id) alone, or from what `draw` gives for the question, so what
    is found depends on the victim and the question only.

    Source: AddAny of arXiv 1707.07328, section 3.3; with `paragraph_words` AddAnyExtend.
    """
    settings = made.search
    draw = draw or partial(_drawn_for, made)
    assert settings is not None, "only generators with a search come here"
    waiting = iter(examples)
    seats: list[_Seat] = []
    while True:
        seats += [_Seat.start(e, settings, draw(e)) for e in islice(waiting, width - len(seats))]
        if not seats:
            return
        started = time.perf_counter()
        asked = [insert_distractor(s.example, " ".join(w), made.place).texts for s in seats for w in s.asked]
        unique = list(dict.fromkeys(asked))
        known = dict(zip(unique, victim.predict(unique), strict=True))
        each = (time.perf_counter() - started) / len(asked)
        texts: Iterator[Texts] = iter(asked)
        going_on = []
        for seat in seats:
            predictions = [known[next(texts)] for _ in seat.asked]
            seat.queries += len(predictions)
            seat.seconds += each * len(predictions)
            if seat.advance([expected_score(p, seat.example) for p in predictions]):
                going_on.append(seat)
            else:
                yield Distractor(seat.example, seat.found, seat.queries, seat.seconds)
        seats = going_on


def expected_score(prediction: Prediction, example: Example) -> ExpectedScore:
    r"""Returns $$\sum_k p_k F_1(a_k)$$ over the victim's likeliest answers, and the F1 of the first."""
    scores = [score_answer(answer, example.answers).f1 for answer in prediction.answers]
    return ExpectedScore(float(np.dot(prediction.probabilities, scores)), scores[0])


@dataclass(slots=True)
class _Seat:
    """One question under search."""

    example: Example
    search: Question
    asked: Sequence[Words]
    found: Words = ()
    queries: int = 0
    seconds: float = 0.0

    @classmethod
    def start(cls, example: Example, settings: DistractorSearch, rng: Draw) -> _Seat:
        search = _search(example, settings, rng)
        return cls(example, search, next(search))

    def advance(self, scores: Sequence[ExpectedScore]) -> bool:
        """Sends scores to the search; returns whether it goes on."""
        try:
            self.asked = self.search.send(scores)
        except StopIteration as stop:
            self.found = stop.value
            return False
        return True


def _drawn_for(made: GeneratedSet, example: Example) -> Draw:
    key = example.id.partition(":")[2] or example.id
    return question_generator(made.seed, made.generator, key.removesuffix(f"-{made.generator}"))


def _search(example: Example, settings: DistractorSearch, rng: np.random.Generator) -> Question:
    """Yields distractors to ask about, is sent their scores, returns the best it has seen."""
    common, fixed = _vocabulary(example, settings)
    beams = [_draw(common, settings.words, rng)]
    best, score = beams[0], (yield beams)[0]
    for beam_count in (1, 1 + settings.restarts):
        beams += [_draw(common, settings.words, rng) for _ in range(beam_count - len(beams))]
        for _ in range(settings.epochs):
            for place in rng.permutation(settings.words):
                asked = [_candidates(beam, int(place), common, fixed, settings.candidates, rng) for beam in beams]
                scores = iter((yield [words for candidates in asked for words in candidates]))
                for index, candidates in enumerate(asked):
                    own = [(next(scores), words) for words in candidates]
                    kept, beams[index] = min(own, key=lambda pair: pair[0].expected_f1)
                    if (kept.best_f1 > 0, kept.expected_f1) < (score.best_f1 > 0, score.expected_f1):
                        best, score = beams[index], kept
                if score.best_f1 == 0:
                    return best
    return best


def _vocabulary(example: Example, settings: DistractorSearch) -> tuple[list[str], list[str]]:
    """Common words, and those of the question and paragraph; none that an answer is made of."""
    taken = {token for answer in example.answers for token in normalised_tokens(answer.text)}

    def allowed(words: Iterable[str]) -> list[str]:
        return [w for w in dict.fromkeys(words) if (t := normalised_tokens(w)) and not taken.intersection(t)]

    question, context = example.texts
    common = [word for word in COMMON_WORDS if not taken.intersection(normalised_tokens(word))]
    content = (t for t in normalised_tokens(context) if t not in FUNCTION_WORDS and not t.isdigit())
    frequent = [word for word, _ in Counter(content).most_common(settings.paragraph_words)]
    return common, allowed([word.strip("?.,;:!\"'()").lower() for word in question.split()] + frequent)


def _draw(words: Sequence[str], count: int, rng: np.random.Generator) -> Words:
    return tuple(words[index] for index in rng.integers(len(words), size=count))


def _candidates(
    beam: Words, place: int, common: Sequence[str], fixed: Sequence[str], count: int, rng: np.random.Generator
) -> list[Words]:
    """The beam with another word at one place: as it is first, so that nothing is lost."""
    drawn = (common[index] for index in rng.choice(len(common), size=min(count, len(common)), replace=False))
    words = dict.fromkeys([beam[place], *drawn, *fixed])
    return [(*beam[:place], word, *beam[place + 1 :]) for word in words]
