"""Adapts a victim that only scores texts to the engine's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, final, runtime_checkable

from robustness.engine.attack import ScoreRows
from robustness.engine.respondents import Respondent, Scorer
from robustness.tasks.abilities import Ability
from robustness.tasks.grading import Grader, LabelGrader
from robustness.testsets.example import Example, Texts

NUMBERS = tuple(str(number) for number in range(1_000))
"""Names for unnamed labels; more than any such victim has."""


@runtime_checkable
class _Starting(Protocol):
    def start(self, texts: Sequence[Texts]) -> Callable[[], ScoreRows]: ...


@final
@dataclass(slots=True)
class LabelRespondent:
    """A scorer whose labels are named by their numbers."""

    scorer: Scorer
    grader: Grader = field(default_factory=lambda: LabelGrader(NUMBERS))
    """Has as many labels as the last rows."""
    can: ClassVar[frozenset[Ability]] = frozenset({Ability.LOSSES, Ability.SCORES})

    def rows(self, asked: Sequence[Example]) -> ScoreRows:
        """Returns the scores of the examples' texts, shape (len(asked), labels)."""
        return self._note(self.scorer.scores([example.texts for example in asked]))

    def start(self, asked: Sequence[Example]) -> Callable[[], ScoreRows]:
        """Begins scoring, if the scorer is asynchronous, and returns the function that waits for the rows."""
        if isinstance(self.scorer, _Starting):
            collect = self.scorer.start([example.texts for example in asked])
            return lambda: self._note(collect())
        rows = self.rows(asked)
        return lambda: rows

    def _note(self, rows: ScoreRows) -> ScoreRows:
        if len(rows):
            self.grader = LabelGrader(NUMBERS[: len(rows[0])])
        return rows


def as_respondent(victim: Respondent | Scorer) -> Respondent:
    """Returns the victim; one that only scores texts is wrapped."""
    return victim if isinstance(victim, Respondent) else LabelRespondent(victim)
