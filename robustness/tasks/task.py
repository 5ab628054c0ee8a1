"""A task: what a checkpoint reads, what it answers with, and which parts of it an attack may change."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from robustness.errors import UsageError
from robustness.tasks.text.answering import TextAnswer


class TaskKind(StrEnum):
    """What a task is answered with."""

    LABELS = "labels"
    SPAN = "span"
    """A span of the last segment."""
    TEXT = "text"
    """What a language model goes on with."""

    @property
    def traits(self) -> KindTraits:
        """What goes with it."""
        return _TRAITS[self]


class Metric(StrEnum):
    """What a test set of a task is scored by."""

    ACCURACY = "accuracy"
    ACCURACY_AND_F1 = "accuracy-and-f1"
    """The mean of both, of two labels; F1 is the second's (GLUE's QQP and MRPC, arXiv 1804.07461)."""
    EXACT_MATCH_AND_F1 = "exact-match-and-f1"
    """Of spans (SQuAD, arXiv 1606.05250)."""


@dataclass(frozen=True, slots=True)
class KindTraits:
    """What goes with one kind of task."""

    gold_column: str
    """What a table of one's own calls what is right."""
    foreign: tuple[str, ...]
    """Keys of a task's file that are other kinds' own."""
    answered: str
    """With what, in words."""
    metric: Metric = Metric.ACCURACY
    """Where a task's file names none."""
    protects_answers: bool = False
    """Whether gold answers in a text are protected where a task's file does not say."""
    protects_numbers: bool = False
    """Whether numbers are: where an answer is made up, it may turn on each of them."""
    is_generated: bool = False
    """Whether a model writes its answer token by token, which takes as long as dozens of labels."""


_TRAITS = {
    TaskKind.LABELS: KindTraits("label", ("answer",), "with a label"),
    TaskKind.SPAN: KindTraits(
        "answers",
        ("answer", "labels", "aliases", "template", "chat", "verbalisers"),
        "with words of the paragraph",
        metric=Metric.EXACT_MATCH_AND_F1,
        protects_answers=True,
    ),
    TaskKind.TEXT: KindTraits(
        "answers",
        ("labels", "aliases", "verbalisers", "metric"),
        "in free text, as [answer] says",
        protects_numbers=True,
        is_generated=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt as messages, which the tokenizer's own chat template renders; fields stand in braces."""

    user: str
    system: str = ""
    """None where it is empty."""


@dataclass(frozen=True, slots=True)
class Protected:
    """What no attack may edit."""

    fields: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    """Regular expressions: what they match in any field, with the whole of the words that they touch."""
    words: tuple[str, ...] = ()
    """Whole words, or several in a row, in any case."""
    numbers: bool = False
    """In digits, and in words such as twelve, half and twice."""
    answers: bool = False
    """Occurrences of gold answers in the paragraph: an attack that deletes the answer has not fooled anyone.

    Of a meaning representation, its slots' values where the text has them word for word.
    """


@dataclass(frozen=True, slots=True)
class Task:
    """One task; two are the same where a checkpoint of one can be evaluated as the other's.

    Source: GLUE (arXiv 1804.07461) for fields and label order; the attacked fields are those TextAttack's
    recipes leave open (a premise or a passage is context and stays as it is).
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    attacked: tuple[str, ...]
    metric: Metric = Metric.ACCURACY
    kind: TaskKind = TaskKind.LABELS
    template: str = ""
    """What a prompted causal language model reads, with the fields in braces."""
    chat: Chat | None = None
    """In place of `template`."""
    verbalisers: tuple[str, ...] = ()
    """What it would go on with, for each label."""
    answer: TextAnswer | None = None
    """Of text: where a response ends, and how it is read."""
    protected: Protected = field(default_factory=Protected)
    aliases: tuple[tuple[str, str], ...] = ()
    """What checkpoints and data files call a label, and the label."""
    file: str = field(default="", compare=False)
    """Where a task of one's own was read from; empty for a shipped one."""

    @property
    def attacked_segments(self) -> tuple[int, ...]:
        """Indices into `fields` that an attack may change."""
        return tuple(self.fields.index(name) for name in self.attacked)

    def attacking(self, fields: Sequence[str]) -> Task:
        """Returns the task with those of the fields open to attack that it has; without any, the task as it is.

        Raises:
            UsageError: it has none of them, or protects one.

        >>> Task("nli", ("premise", "hypothesis"), ("yes", "no"), ("hypothesis",)).attacking(["premise"]).attacked
        ('premise',)
        """
        if not fields:
            return self
        for name in fields:
            if name in self.protected.fields:
                raise UsageError(f"--attack-field {name}: task {self.name} protects it; leave the field out")
        attacked = tuple(name for name in self.fields if name in fields)
        if not attacked:
            raise UsageError(
                f"--attack-field {fields[0]}: task {self.name} has no such field; it has {', '.join(self.fields)}"
            )
        return replace(self, attacked=attacked)

    def find_label(self, name: str) -> int | None:
        """Returns the index of a label by its name or an alias, whatever the case and the signs; None: no such label.

        >>> Task("mood", ("text",), ("sad", "glad"), ("text",), aliases=(("pos", "glad"),)).find_label("POS")
        1
        """
        wanted = fold_label(name)
        names = {fold_label(alias): label for alias, label in self.aliases}
        names |= {fold_label(label): label for label in self.labels}
        return self.labels.index(names[wanted]) if wanted in names else None


def fold_label(name: str) -> str:
    """Returns a label's letters and digits, of any script, without case: by what names of labels are compared.

    >>> fold_label("Sci/Tech"), fold_label("not_entailment"), fold_label("ПЛОХО")
    ('scitech', 'notentailment', 'плохо')
    """
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())
