"""The tasks a checkpoint can be fine-tuned for: GLUE's with their fields and label order, and SQuAD v1.1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from robustness.definitions.naming import nearest
from robustness.errors import DefinitionError


class Head(StrEnum):
    """What a checkpoint answers with."""

    CLASSIFICATION = "classification"
    ANSWERING = "answering"
    """A span of the last segment."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Source: GLUE (arXiv 1804.07461) for fields and label order; the attacked fields are those TextAttack's
    recipes leave open (a premise or a passage is context and stays as it is).
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    attacked: tuple[str, ...]
    scores_f1: bool = False
    head: Head = Head.CLASSIFICATION
    template: str = ""
    """What a prompted causal language model reads, with the fields in braces."""
    verbalisers: tuple[str, ...] = ()
    """What it would go on with, for each label."""

    @property
    def attacked_segments(self) -> tuple[int, ...]:
        """Indices into `fields` that an attack may change."""
        return tuple(self.fields.index(name) for name in self.attacked)


TASKS: tuple[Task, ...] = (
    Task(
        "sst2",
        ("sentence",),
        ("negative", "positive"),
        ("sentence",),
        template="Review: {sentence}\nSentiment:",
        verbalisers=(" negative", " positive"),
    ),
    Task(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("question1", "question2"),
        scores_f1=True,
        template="Question 1: {question1}\nQuestion 2: {question2}\nDo both ask the same?",
        verbalisers=(" no", " yes"),
    ),
    Task(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("hypothesis",),
        template="Premise: {premise}\nHypothesis: {hypothesis}\nDoes the hypothesis follow?",
        verbalisers=(" yes", " maybe", " no"),
    ),
    Task(
        "qnli",
        ("question", "sentence"),
        ("entailment", "not_entailment"),
        ("question",),
        template="Question: {question}\nSentence: {sentence}\nDoes the sentence answer the question?",
        verbalisers=(" yes", " no"),
    ),
    Task(
        "rte",
        ("sentence1", "sentence2"),
        ("entailment", "not_entailment"),
        ("sentence2",),
        template="Premise: {sentence1}\nHypothesis: {sentence2}\nDoes the hypothesis follow?",
        verbalisers=(" yes", " no"),
    ),
    Task("squad", ("question", "context"), (), ("context",), head=Head.ANSWERING),
)


def find_task(name: str) -> Task:
    """Returns the task of that name; raises DefinitionError with the nearest right name."""
    for task in TASKS:
        if task.name == name:
            return task
    raise DefinitionError(f"unknown task {name!r}{nearest(name, [task.name for task in TASKS])}")
