"""What came of one example: the row that is stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from robustness.testsets.example import Texts


class Status(StrEnum):
    """How an attack on an example ended."""

    SKIPPED = "skipped"
    """The clean text was already answered wrongly."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ERRORED = "errored"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attacked, or merely evaluated, example."""

    example_id: str
    group_id: str
    label: int
    """Where the task is answering, 1: predictions are then 1 where the answer matches exactly, scores are F1."""
    status: Status
    clean_prediction: int | None
    """None where the clean text of a ready-made adversarial example is not known."""
    adversarial_prediction: int | None
    clean_score: float | None
    """Probability of the true label."""
    score: float | None
    queries: int
    """Candidates asked about, the clean text not included, known to the cache or not."""
    forwards: int
    """Texts really run through the model because of this example, the clean text and the judgement included."""
    modified_words: int | None
    modified_share: float | None
    """Of the clean text's words."""
    similarity: float | None
    """Characters kept: 1 - Levenshtein distance / length of the longer text."""
    seconds: float
    """The search's own time plus its share of the model's, by forwards."""
    original_text: Texts | None
    adversarial_text: Texts | None
    error: str | None = None
    distance: float | None = None
    """Norm of the perturbation of the embeddings, in median token norms of the victim; None for attacks on text."""
    norm: str | None = None
    """Of the distance: l2 or linf."""
    backwards: int | None = None
    """Gradients taken; None for attacks on scores."""
    zero_gradients: int | None = None
    """Points at which the gradient vanished: above 0, a failed attack is weak evidence of robustness."""
    answer: str | None = None
    """The span answered to the adversarial text; None where the task has labels."""
    method: str | None = None
    """How a ready-made adversarial example was made, in its authors' words."""
    construction: str | None = None
    """At what level: word, sentence or human."""
    original_label: int | None = None
    """What is right of the original of a ready-made example, where its test set says so; None: the row's label."""
    label_entropy: float | None = None
    """In bits: how far people disagreed on the label, where the test set says so."""
