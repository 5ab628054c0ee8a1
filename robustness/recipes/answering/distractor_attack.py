"""Distractors searched for live: an attack on question answering."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Literal

from robustness.definitions.testsets import DistractorSearch, GeneratedSet
from robustness.engine.answers import answer_outcome
from robustness.engine.attack import Access
from robustness.engine.outcome import Outcome, Status
from robustness.recipes.answering.distractor_search import Draw, search_distractors
from robustness.tasks.answer_scores import score_answer
from robustness.testsets.example import Example
from robustness.testsets.generation import insert_distractor, question_generator
from robustness.victims.heads.spans import AnsweringVictim

CHUNK = 256
"""Questions whose clean form is answered, and that are then attacked, at a time; bounds memory."""


class DistractorAttack:
    """Adds the words that minimise the expected F1, to every question that is answered exactly.

    Source: AddAny of arXiv 1707.07328, section 3.3.
    """

    access = Access.SCORES

    def __init__(self, search: DistractorSearch, place: Literal["before", "after"]) -> None:
        self._search = search
        self._place = place

    def run_answers(
        self, victim: AnsweringVictim, examples: Iterable[Example], *, seed: int, digest: str
    ) -> Iterator[Outcome]:
        """Yields one outcome for each question; what is found is judged by a forward pass of its own."""
        made = GeneratedSet(generator="addany", questions="squad", seed=seed, place=self._place, search=self._search)

        def draw(example: Example) -> Draw:
            return question_generator(seed, digest, example.id)

        waiting = iter(examples)
        while chunk := [replace(e, original=e.texts) for e in islice(waiting, CHUNK)]:
            started = time.perf_counter()
            clean = dict(zip((e.id for e in chunk), victim.predict([e.texts for e in chunk], n_best=1), strict=True))
            each = (time.perf_counter() - started) / len(chunk)
            attacked = []
            for example in chunk:
                given = clean[example.id]
                if score_answer(given.best, example.answers).exact_match:
                    attacked.append(example)
                else:
                    yield answer_outcome(example, given, given, forwards=1, seconds=each)
            for found in search_distractors(victim, attacked, made, draw=draw):
                altered = insert_distractor(found.example, found.sentence, self._place)
                fresh = victim.predict([altered.texts], n_best=1)[0]
                outcome = answer_outcome(
                    altered,
                    fresh,
                    clean[altered.id],
                    forwards=found.queries + 2,
                    seconds=found.seconds + each,
                    queries=found.queries,
                )
                assert outcome.status is not Status.SKIPPED, "only questions that were answered are attacked"
                yield outcome
