"""The tasks a checkpoint can be fine-tuned for: GLUE's with their fields and label order, and SQuAD v1.1."""

from __future__ import annotations

from robustness.definitions.naming import nearest
from robustness.errors import DefinitionError
from robustness.tasks.task import Task, TaskKind

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
    Task("squad", ("question", "context"), (), ("context",), kind=TaskKind.SPAN),
)


def find_task(name: str) -> Task:
    """Returns the task of that name; raises DefinitionError with the nearest right name."""
    for task in TASKS:
        if task.name == name:
            return task
    raise DefinitionError(f"unknown task {name!r}{nearest(name, [task.name for task in TASKS])}")
