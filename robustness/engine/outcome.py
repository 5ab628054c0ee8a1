"""What came of one example: the row that is stored."""

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
    """The clean text was already answered wrongly."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an example has no status but `errored`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A text, and how right the answer to it is."""

    text: Example | None
    """None where no text was changed: perturbed embeddings."""
    grade: Grade | None
    """None where it was not asked about, or not answered with numbers."""

    @property
    def texts(self) -> Texts | None:
        """Segments."""
        return None if self.text is None else self.text.texts

    @property
    def correct(self) -> bool | None:
        """As in `Grade`, and the next two."""
        return None if self.grade is None else self.grade.correct

    @property
    def quality(self) -> float | None:
        """In [0, 1]."""
        return None if self.grade is None else self.grade.quality

    @property
    def response(self) -> str | None:
        """As people read it."""
        return None if self.grade is None else self.grade.response

    @property
    def cut(self) -> bool | None:
        """Whether a generated response was still going on at the token limit."""
        return None if self.grade is None else self.grade.cut


@dataclass(frozen=True, slots=True)
class Spent:
    """What an example has cost."""

    queries: int = 0
    """Candidates asked about, the clean text not included, known to the cache or not."""
    forwards: int = 0
    """Texts really run through the model because of this example, the clean text and the judgement included."""
    seconds: float = 0.0
    """The search's own time plus its share of the model's, by forwards."""
    backwards: int | None = None
    """Gradients taken; None for attacks on scores."""
    zero_gradients: int | None = None
    """Points at which the gradient vanished: above 0, a failed attack is weak evidence of robustness."""
    decodes: int | None = None
    """Responses decoded, in part or whole; None of a victim that decodes nothing."""
    generated_tokens: int | None = None
    """Of them, without those that were read along."""

    def with_generated(self, counts: Iterable[int | None]) -> Spent:
        """Returns it with the decodes of rows, by how many tokens each took; None of what is never decoded.

        >>> Spent().with_generated([7, 0, 2]).decodes
        2
        """
        known = [count for count in counts if count is not None]
        if not known:
            return self
        return replace(self, decodes=sum(count > 0 for count in known), generated_tokens=sum(known))


NOTHING = Spent()
UNASKED = Answered(None, None)
"""A text that is not known, or was never judged."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attacked, or merely evaluated, example; `of` makes it."""

    example_id: str
    group_id: str
    clean_correct: bool | None
    """None where the clean text of a ready-made adversarial example is not known."""
    correct: bool | None
    """Of the text that was judged; None where none was."""
    clean_quality: float | None
    """In [0, 1]: of labels the probability of the gold label, of spans F1."""
    quality: float | None
    clean_response: str | None
    """A label's name, or the answer."""
    response: str | None
    gold: str
    """What is right, as people read it."""
    status: Status
    queries: int
    """As in `Spent`."""
    forwards: int
    modified_words: int | None
    modified_share: float | None
    """Of the clean text's words; None where it has none."""
    similarity: float | None
    """Characters kept: 1 - Levenshtein distance / length of the longer text."""
    seconds: float
    original_text: Texts | None
    adversarial_text: Texts | None
    error: str | None = None
    distance: float | None = None
    """Norm of the perturbation of the embeddings, in median token norms of the victim; None for attacks on text."""
    norm: str | None = None
    """Of the distance: l2 or linf."""
    backwards: int | None = None
    zero_gradients: int | None = None
    method: str | None = None
    """How a ready-made adversarial example was made, in its authors' words."""
    construction: str | None = None
    """At what level: word, sentence or human."""
    original_gold: str | None = None
    """What is right of the original of a ready-made example, where its test set says so; None: the row's gold."""
    label_entropy: float | None = None
    """In bits: how far people disagreed on the label, where the test set says so."""
    decodes: int | None = None
    """As in `Spent`, and the next one."""
    generated_tokens: int | None = None
    cut: bool | None = None
    """Whether the response to the text that was judged was still going on at the token limit; None of others."""

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
        """Returns the outcome of an example, with what was changed of its text.

        Args:
            example: what was attacked or evaluated.
            gold: what is right of it, as people read it.
            ended: its status, or why it has none.
            clean: the text before any change.
            given: the text that was judged.
            spent: what it has cost.
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
