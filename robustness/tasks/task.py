"""A task: its texts, its answers, and the parts that an attack may change."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from robustness.errors import UsageError
from robustness.tasks.text.answering import TextAnswer


class TaskKind(StrEnum):
    """The kind of a task's answers."""

    LABELS = "labels"
    SPAN = "span"
    """A span of the last segment."""
    TEXT = "text"
    """A language model's continuation."""

    @property
    def traits(self) -> KindTraits:
        """The kind's properties."""
        return _TRAITS[self]


class Metric(StrEnum):
    """The score of a task's test sets."""

    ACCURACY = "accuracy"
    ACCURACY_AND_F1 = "accuracy-and-f1"
    """The mean of both, for two labels; F1 of the second (GLUE's QQP and MRPC, arXiv 1804.07461)."""
    EXACT_MATCH_AND_F1 = "exact-match-and-f1"
    """For spans (SQuAD, arXiv 1606.05250)."""


@dataclass(frozen=True, slots=True)
class KindTraits:
    """Properties of one kind of task."""

    gold_column: str
    """The key for gold in a user's table."""
    foreign: tuple[str, ...]
    """Keys of a task's file that belong only to other kinds."""
    answered: str
    """The kind of answer, in words."""
    metric: Metric = Metric.ACCURACY
    """The default metric."""
    protects_answers: bool = False
    """Whether gold answers in a text are protected by default."""
    protects_numbers: bool = False
    """Whether numbers are protected by default: a generated answer may depend on each."""
    is_generated: bool = False
    """Whether a model generates its answer token by token, which costs as much as dozens of labels."""


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
    """A prompt as messages for the tokenizer's own chat template; fields are in braces."""

    user: str
    system: str = ""
    """None if it is empty."""


@dataclass(frozen=True, slots=True)
class Protected:
    """Parts of a text that no attack may edit."""

    fields: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    """Regular expressions: protect their matches in any field, extended to whole words."""
    words: tuple[str, ...] = ()
    """Whole words or phrases, in any case."""
    numbers: bool = False
    """In digits, and in words such as twelve, half and twice."""
    answers: bool = False
    """Occurrences of gold answers in the paragraph: an attack that deletes the answer has not fooled anyone.

    For a meaning representation: its slots' values, if the text has them word for word.
    """


@dataclass(frozen=True, slots=True)
class Task:
    """One task; two tasks are equal if a checkpoint of one can be evaluated on the other.

    Source: GLUE (arXiv 1804.07461) for fields and label order; the attacked fields are those of TextAttack's recipes,
    which do not change a premise or a passage.
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    attacked: tuple[str, ...]
    metric: Metric = Metric.ACCURACY
    kind: TaskKind = TaskKind.LABELS
    template: str = ""
    """The prompt of a causal language model, with the fields in braces."""
    chat: Chat | None = None
    """In place of `template`."""
    verbalisers: tuple[str, ...] = ()
    """Its continuation for each label."""
    answer: TextAnswer | None = None
    """For text: where a response ends, and how it is parsed."""
    protected: Protected = field(default_factory=Protected)
    aliases: tuple[tuple[str, str], ...] = ()
    """Pairs of a name in checkpoints or data files and the label."""
    file: str = field(default="", compare=False)
    """The file of a user's task; empty for a shipped task."""

    @property
    def attacked_segments(self) -> tuple[int, ...]:
        """Indices into `fields` that an attack may change."""
        return tuple(self.fields.index(name) for name in self.attacked)

    def attacking(self, fields: Sequence[str]) -> Task:
        """Returns the task with these of its fields open to attack; without fields, the task unchanged.

        Raises:
            UsageError: the task lacks all of the fields, or protects one.

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
        """Returns the index of a label by name or alias, ignoring case and signs; None: no such label.

        >>> Task("mood", ("text",), ("sad", "glad"), ("text",), aliases=(("pos", "glad"),)).find_label("POS")
        1
        """
        wanted = fold_label(name)
        names = {fold_label(alias): label for alias, label in self.aliases}
        names |= {fold_label(label): label for label in self.labels}
        return self.labels.index(names[wanted]) if wanted in names else None


def fold_label(name: str) -> str:
    """Returns a label's letters and digits of any script, without case, for comparing names.

    >>> fold_label("Sci/Tech"), fold_label("not_entailment"), fold_label("ПЛОХО")
    ('scitech', 'notentailment', 'плохо')
    """
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())
