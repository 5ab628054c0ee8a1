"""The outcome of one example: the row that is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from robustness.engine.changes import measure_change
from robustness.tasks.grading import Grade
from robustness.testsets.example import Example, Texts


class Status(StrEnum):
    """How an attack on an example ended."""

    SKIPPED = "skipped"
    """The answer to the clean text was already wrong."""
    SUCCEEDED = "succeeded"
    """The clean text was answered right, and the judged text reaches the objective: by default a wrong answer."""
    FAILED = "failed"
    """The attack found no such text within its budget."""
    ERRORED = "errored"
    """An exception, with its reason in `error`; such rows are counted and shown, never left out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an example has no status but `errored`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A text and the grade of its answer."""

    text: Example | None
    """None where no text was changed: perturbed embeddings."""
    grade: Grade | None
    """None where the text was not evaluated, or the answer has no numbers."""

    @property
    def texts(self) -> Texts | None:
        """Segments."""
        return None if self.text is None else self.text.texts

    @property
    def correct(self) -> bool | None:
        """As in `Grade`, like the next two fields."""
        return None if self.grade is None else self.grade.correct

    @property
    def quality(self) -> float | None:
        """In [0, 1]."""
        return None if self.grade is None else self.grade.quality

    @property
    def response(self) -> str | None:
        """In readable form."""
        return None if self.grade is None else self.grade.response

    @property
    def cut(self) -> bool | None:
        """Whether a generated response was cut at the token limit."""
        return None if self.grade is None else self.grade.cut


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of one example."""

    queries: int = 0
    """Candidates asked about, without the clean text; cached answers count too."""
    forwards: int = 0
    """Texts that the model processed for this example, with the clean text and the judgement."""
    seconds: float = 0.0
    """The search's own time plus its share of the model's time, in proportion to forwards."""
    backwards: int | None = None
    """Gradients taken; None for attacks on scores."""
    zero_gradients: int | None = None
    """Points where the gradient vanished; above 0, a failed attack is weak evidence of robustness."""
    decodes: int | None = None
    """Responses decoded, in part or whole; None for a victim that decodes nothing."""
    generated_tokens: int | None = None
    """Tokens generated in these decodes; tokens verified in one forward pass are not counted."""

    def with_generated(self, counts: Iterable[int | None]) -> Spent:
        """Returns a copy with decodes added; `counts` has each row's generated tokens, None for a row never decoded.

        >>> Spent().with_generated([7, 0, 2]).decodes
        2
        """
        known = [count for count in counts if count is not None]
        if not known:
            return self
        return replace(self, decodes=sum(count > 0 for count in known), generated_tokens=sum(known))


NOTHING = Spent()
UNASKED = Answered(None, None)
"""Stands for a text that is not known or was never judged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attacked or evaluated example; built by `of`."""

    example_id: str
    group_id: str
    clean_correct: bool | None
    """None for a ready-made adversarial example whose clean text is not known."""
    correct: bool | None
    """For the judged text; None if no text was judged."""
    clean_quality: float | None
    """In [0, 1]: the probability of the gold label, or F1 for spans."""
    quality: float | None
    clean_response: str | None
    """A label's name, or the answer."""
    response: str | None
    gold: str
    """In readable form."""
    status: Status
    queries: int
    """As in `Spent`."""
    forwards: int
    modified_words: int | None
    modified_share: float | None
    """A share of the clean text's words; None for a text without words."""
    similarity: float | None
    """Characters kept: 1 - Levenshtein distance / length of the longer text."""
    seconds: float
    original_text: Texts | None
    adversarial_text: Texts | None
    error: str | None = None
    distance: float | None = None
    """Norm of the embedding perturbation, in median token norms of the victim; None for attacks on text."""
    norm: str | None = None
    """The distance's norm: l2 or linf."""
    backwards: int | None = None
    zero_gradients: int | None = None
    method: str | None = None
    """How a ready-made adversarial example was made, in its authors' terms."""
    construction: str | None = None
    """The construction's level: word, sentence or human."""
    original_gold: str | None = None
    """Gold of a ready-made example's original, where the test set gives one; None: the row's gold."""
    label_entropy: float | None = None
    """Disagreement of the annotators in bits, where the test set gives it."""
    decodes: int | None = None
    """As in `Spent`, and the next one."""
    generated_tokens: int | None = None
    cut: bool | None = None
    """Whether the response to the judged text was cut at the token limit; None for other kinds of response."""

    @classmethod
    def of(
        cls,
        example: Example,
        gold: str,
        ended: Status | Problem,
        *,
        clean: Answered = UNASKED,
        given: Answered = UNASKED,
        spent: Spent = NOTHING,
    ) -> Outcome:
        """Returns the outcome of an example, with the measured changes of its text.

        Args:
            example: what was attacked or evaluated.
            gold: its gold in readable form.
            ended: its status, or the reason for an errored outcome.
            clean: the text before any change.
            given: the text that was judged.
            spent: its cost.
        """
        change = None if clean.text is None or given.text is None else measure_change(clean.text, given.text)
        return cls(
            example_id=example.id,
            group_id=example.group,
            clean_correct=clean.correct,
            correct=given.correct,
            clean_quality=clean.quality,
            quality=given.quality,
            clean_response=clean.response,
            response=given.response,
            gold=gold,
            status=Status.ERRORED if isinstance(ended, Problem) else ended,
            queries=spent.queries,
            forwards=spent.forwards,
            modified_words=change and change.words,
            modified_share=change and change.share,
            similarity=change and change.similarity,
            seconds=spent.seconds,
            original_text=clean.texts,
            adversarial_text=given.texts,
            error=ended.reason.encode("utf-8", "backslashreplace").decode() if isinstance(ended, Problem) else None,
            backwards=spent.backwards,
            zero_gradients=spent.zero_gradients,
            decodes=spent.decodes,
            generated_tokens=spent.generated_tokens,
            cut=given.cut,
        )
