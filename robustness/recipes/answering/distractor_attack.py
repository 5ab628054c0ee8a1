"""Distractors searched for live: an attack on question answering."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

from robustness.definitions.testsets import DistractorSearch, GeneratedSet
from robustness.engine.attack import Access
from robustness.engine.evaluation import NOT_FINITE
from robustness.engine.outcome import Answered, Outcome, Problem, Spent, Status
from robustness.recipes.answering.distractor_search import Draw, search_distractors
from robustness.tasks.grading import Grade, grade_finite
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
            clean = dict(zip((e.id for e in chunk), _grade(victim, chunk), strict=True))
            each = (time.perf_counter() - started) / len(chunk)
            attacked = []
            for example in chunk:
                grade = clean[example.id]
                if grade is not None and grade.correct:
                    attacked.append(example)
                else:
                    yield _outcome(victim, example, (grade, grade), Spent(forwards=1, seconds=each))
            for found in search_distractors(victim, attacked, made, draw=draw):
                altered = insert_distractor(found.example, found.sentence, self._place)
                grades = clean[altered.id], _grade(victim, [altered])[0]
                spent = Spent(found.queries, found.queries + 2, found.seconds + each)
                yield _outcome(victim, altered, grades, spent)


def _grade(victim: AnsweringVictim, asked: Sequence[Example]) -> list[Grade | None]:
    rows = victim.rows(asked)
    return [grade_finite(victim.grader, row, each) for row, each in zip(rows, asked, strict=True)]


def _outcome(
    victim: AnsweringVictim, altered: Example, grades: tuple[Grade | None, Grade | None], spent: Spent
) -> Outcome:
    clean, given = grades
    if clean is None or given is None:
        ended: Status | Problem = Problem(NOT_FINITE)
    else:
        ended = Status.SKIPPED if not clean.correct else Status.FAILED if given.correct else Status.SUCCEEDED
    return Outcome.of(
        altered,
        victim.grader.gold(altered),
        ended,
        clean=Answered(altered.clean_form(), clean),
        given=Answered(altered, given),
        spent=spent,
    )
