"""Searches words to add to the paragraphs of a generated test set, against one reader."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from robustness.definitions.testsets import GeneratedSet
from robustness.engine.named_attack import NamedAttack
from robustness.engine.scheduler import Scheduler
from robustness.errors import RunError
from robustness.recipes.distractors.added_words import AddWords
from robustness.tasks.abilities import Ability
from robustness.tasks.answer_scores import score_answer
from robustness.tasks.grading import Asked, BlindAnswer, Grade, Grader, Rows, SpanGrader, StoredGrade
from robustness.testsets.example import Example, Texts
from robustness.victims.heads.spans.answering import AnsweringVictim, Prediction

WIDTH = 32
"""Questions searched side by side; an interrupted run loses these. The words found do not depend on this number."""


@dataclass(frozen=True, slots=True)
class Distractor:
    """The words found for one question."""

    example: Example
    """The original question."""
    sentence: str
    queries: int


def search_distractors(
    victim: AnsweringVictim, examples: Sequence[Example], made: GeneratedSet, *, width: int = WIDTH
) -> Iterator[Distractor]:
    """Yields the distractor of each question as its search ends.

    A search sees the expected F1 of the reader's answers, as in AddAny. It ends when the answer shares no word with a
    gold answer. Its generator is seeded with (seed, generator, question id), so the result depends only on seed,
    victim and question.

    Source: AddAny of arXiv 1707.07328, section 3.3; with `paragraph_words` AddAnyExtend.

    Raises:
        RunError: a question that the reader cannot answer.
    """
    assert made.search is not None, "only generators with a search come here"
    attack = NamedAttack(made.generator, made.generator, AddWords(**made.search.model_dump(), place=made.place))
    asked = {key: example for example in examples if (key := _key_of(example, made))}
    reader = ExpectedScores(victim, {example.texts for example in examples})
    named = [replace(example, id=key) for key, example in asked.items()]
    for outcome in Scheduler(attack, reader, seed=made.seed, width=width).run(named):
        example = asked[outcome.example_id]
        if outcome.adversarial_text is None:
            raise RunError(
                f"{example.id}: the search for distractors failed: {outcome.error}; finished questions are kept, and "
                "the same command resumes"
            )
        before, after = example.texts[example.attacked[-1]], outcome.adversarial_text[example.attacked[-1]]
        words = after.removeprefix(before.rstrip()) if made.place == "after" else after.removesuffix(before)
        yield Distractor(example, words.strip(), outcome.queries)


def _key_of(example: Example, made: GeneratedSet) -> str:
    return (example.id.partition(":")[2] or example.id).removesuffix(f"-{made.generator}")


@final
@dataclass(frozen=True, slots=True)
class ExpectedScores:
    """A reader that gives the expected F1 of its likeliest answers in place of the gold answer's probability.

    Every clean answer counts as right, so that every question of a set gets a distractor.
    """

    victim: AnsweringVictim
    clean: Collection[Texts]
    can: ClassVar[frozenset[Ability]] = frozenset({Ability.LOSSES})

    @property
    def grader(self) -> Grader:
        """Reads the rows."""
        return ExpectedScoreGrader()

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the expected F1 of the likeliest answers and the F1 of the first, shape (len(asked), 2)."""
        predictions = self.victim.predict([example.texts for example in asked])
        rows = np.array([expected_score(*each) for each in zip(predictions, asked, strict=True)], dtype=np.float32)
        rows[[example.texts in self.clean for example in asked], 1] = 1
        return rows


def expected_score(prediction: Prediction, example: Example) -> tuple[float, float]:
    r"""Returns $$\sum_k p_k F_1(a_k)$$ over the victim's likeliest answers, and the F1 of the first."""
    scores = [score_answer(answer, example.answers).f1 for answer in prediction.answers]
    return float(np.dot(prediction.probabilities, scores)), scores[0]


@final
@dataclass(frozen=True, slots=True)
class ExpectedScoreGrader:
    """Grades rows of expected F1 and F1: an answer is right while it shares a word with a gold answer."""

    measure: ClassVar[str] = SpanGrader.measure
    floor: ClassVar[str] = SpanGrader.floor

    def losses(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns one minus the expected F1, shape (texts,)."""
        del asked
        return 1 - rows[:, 0].astype(np.float64)

    def correct(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.bool_]:
        """Returns which answers have an F1 above 0, shape (texts,)."""
        del asked
        return np.asarray(rows[:, 1] > 0)

    def problem(self, asked: Asked) -> str | None:
        """Returns None: any text may be a gold answer."""
        del asked
        return None

    def points(self, rows: Rows, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Returns the answers' F1, shape (texts,)."""
        del asked
        return rows[:, 1].astype(np.float64)

    def blind_answer(self, asked: Sequence[Asked]) -> BlindAnswer:
        """Returns the mean F1 of the whole paragraph."""
        return SpanGrader().blind_answer(asked)

    def grade(self, row: NDArray[np.float32], asked: Asked) -> Grade:
        """Returns the F1; the answer itself is not kept."""
        del asked
        return Grade(bool(row[1] > 0), float(row[1]), "")

    def gold(self, asked: Asked) -> str:
        """Returns the first gold answer's text."""
        return asked.answers[0].text

    def generated(self, row: NDArray[np.float32]) -> int | None:
        """Returns None: nothing is decoded."""
        del row
        return None

    def contradiction(self, row: NDArray[np.float32], stored: StoredGrade, tolerance: float) -> str | None:
        """Returns None: these grades are never stored."""
        del row, stored, tolerance
        return None

    def differ(self, known: NDArray[np.float32], fresh: NDArray[np.float32], tolerance: float) -> bool:
        """Returns whether an F1, expected or not, moved by more than the tolerance."""
        return bool(np.abs(known - fresh).max() > tolerance)
