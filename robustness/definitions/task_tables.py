"""The schema of a task's TOML file, or of the table `[task]` of a test set's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from robustness.definitions.answer_tables import AnswerTable
from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest_of
from robustness.tasks.patterns import compile_pattern
from robustness.tasks.task import Chat, Metric, Protected, Task, TaskKind, fold_label

MEANING = "meaning-representation"
"""The only parser whose answers name words of a text."""
FieldName = Annotated[str, StringConstraints(min_length=1)]


class ChatTable(Definition):
    """`[chat]`: messages that the tokenizer's chat template renders."""

    user: str
    system: str = ""


class ProtectedTable(Definition):
    """`[protected]`: parts that no attack may edit."""

    fields: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Whole words, or several in a row, in any case."""
    numbers: bool | None = None
    """In digits and in words; None: yes for text, whose answer may depend on them, otherwise no."""
    answers: bool | None = None
    """For questions and meaning representations; None: yes for both, otherwise no."""


class TaskDefinition(Definition):
    """One task: its texts, its answers, and what an attack may change."""

    summary: str = ""
    paper: str | None = None
    kind: TaskKind = TaskKind.LABELS
    fields: tuple[FieldName, ...] = Field(min_length=1)
    """Columns of the task's texts, in the model's reading order."""
    attacked: tuple[str, ...] | None = None
    """None: every unprotected field."""
    labels: tuple[str, ...] = ()
    """In the order of their indices."""
    metric: Metric | None = None
    """None: accuracy; for spans exact match and F1."""
    template: str = ""
    chat: ChatTable | None = None
    verbalisers: tuple[str, ...] = ()
    answer: AnswerTable | None = None
    """For text."""
    aliases: dict[str, str] = Field(default_factory=dict)
    protected: ProtectedTable = ProtectedTable()

    @field_validator("kind", mode="before")
    @classmethod
    def _refuse_regression(cls, kind: object) -> object:
        if kind == "regression":
            raise ValueError(
                "regression is not supported, because every accuracy would depend on a chosen tolerance; "
                'cut the scores into classes, and use kind = "labels"'
            )
        return kind

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        yield from _refused_names("fields", self.fields)
        yield from _unknown("attacked", self.attacked or (), self.fields)
        yield from _unknown("[protected] fields", self.protected.fields, self.fields)
        for name in self.protected.fields:
            if name in (self.attacked or ()):
                yield f"attacked names the field {name!r}, which [protected] closes; take it out of one of them"
        if not self._attacked():
            yield "no field is open to attack: [protected] closes them all; leave one out of it"
        for pattern in self.protected.patterns:
            try:
                compile_pattern(pattern)
            except ValueError as error:
                yield f"[protected] patterns: {pattern!r} {error}"
        if any(not word.strip() for word in self.protected.words):
            yield "[protected] words: one of them is empty; take it out"
        for key in self.kind.traits.foreign:
            if getattr(self, key):
                answered = self.kind.traits.answered
                yield f'{key}: kind = "{self.kind.value}" is answered {answered}; take {key} out'
        yield from _RULES[self.kind](self)

    def _text_problems(self) -> Iterator[str]:
        if self.answer is None:
            yield 'kind = "text" needs the table [answer] with parser and metric'
        elif self.protected.answers and self.answer.parser != MEANING:
            yield "[protected] answers: for text, only a meaning representation names its words"
        if not self.template and self.chat is None:
            yield 'kind = "text" needs a template or [chat]: the prompt that the model continues'
        yield from self._form_problems()

    def _span_problems(self) -> Iterator[str]:
        if len(self.fields) != 2:
            yield f'kind = "span" reads two fields, the question and the paragraph; fields names {len(self.fields)}'
        if self.metric not in (None, Metric.EXACT_MATCH_AND_F1):
            yield f'metric {self.metric.value!r} is for labels; for kind = "span" use "exact-match-and-f1"'

    def _label_problems(self) -> Iterator[str]:
        if len(self.labels) < 2:
            yield f'labels: kind = "labels" needs two labels or more; got {list(self.labels)}'
        yield from _refused_names("labels", self.labels)
        folded = [fold_label(label) for label in self.labels]
        for label, name in zip(self.labels, folded, strict=True):
            if not name or folded.count(name) > 1:
                why = "consists only of signs" if not name else "equals another label except for case and signs"
                yield f"labels: {label!r} {why}; names of labels in checkpoints could not be matched with it"
        yield from _unknown("aliases", list(self.aliases.values()), self.labels)
        for alias, label in self.aliases.items():
            if fold_label(alias) in folded and fold_label(alias) != fold_label(label):
                yield f"aliases: {alias!r} is a label itself; it cannot be an alias of {label!r}"
        if self.protected.answers is not None:
            yield '[protected] answers: only kind = "span" has answers in its text; take it out'
        if self.metric is Metric.EXACT_MATCH_AND_F1:
            yield 'metric "exact-match-and-f1" is for kind = "span"; for labels use "accuracy" or "accuracy-and-f1"'
        if self.metric is Metric.ACCURACY_AND_F1 and len(self.labels) != 2:
            yield f'metric "accuracy-and-f1" is for two labels, F1 of the second; there are {len(self.labels)}'
        yield from self._prompt_problems()

    def _prompt_problems(self) -> Iterator[str]:
        prompt, key = self._prompt()
        if bool(prompt) != bool(self.verbalisers):
            lack = "verbalisers, one for each label" if prompt else "a template or [chat] to put them behind"
            yield f"{key if prompt else 'verbalisers'}: a prompted model needs {lack} too"
        yield from self._form_problems()
        if self.verbalisers and len(self.verbalisers) != len(self.labels):
            yield f"verbalisers: {len(self.verbalisers)} for {len(self.labels)} labels; expected one for each"
        said = [verbaliser.strip() for verbaliser in self.verbalisers]
        for word in said:
            if not word or said.count(word) > 1:
                why = "is empty" if not word else "stands for two labels"
                yield f"verbalisers: {word!r} {why}; give each its own"

    def _prompt(self) -> tuple[str, str]:
        """The prompt, and its name in errors."""
        return (self.template, "template") if self.chat is None else (self.chat.user, "[chat] user")

    def _form_problems(self) -> Iterator[str]:
        prompt, key = self._prompt()
        if self.template and self.chat is not None:
            yield "template and [chat] are two prompts; keep one"
        if prompt:
            yield from _template_problems(key, prompt, self.fields)
        if self.chat is not None and list(_placeholders(self.chat.system)):
            yield "[chat] system: fields belong in [chat] user; write the system message without braces"

    def _attacked(self) -> tuple[str, ...]:
        open_fields = tuple(name for name in self.fields if name not in self.protected.fields)
        return open_fields if self.attacked is None else self.attacked

    def _protects(self) -> Protected:
        said, traits = self.protected, self.kind.traits
        names_its_words = self.answer is not None and self.answer.parser == MEANING
        numbers = traits.protects_numbers if said.numbers is None else said.numbers
        answers = traits.protects_answers or names_its_words if said.answers is None else said.answers
        return Protected(said.fields, said.patterns, said.words, numbers, answers)

    def named(self, name: str, file: str = "") -> Task:
        """Returns the task under its name."""
        traits = self.kind.traits
        return Task(
            name=name,
            fields=self.fields,
            labels=self.labels,
            attacked=self._attacked(),
            metric=self.metric or traits.metric,
            kind=self.kind,
            template=self.template,
            chat=None if self.chat is None else Chat(self.chat.user, self.chat.system),
            verbalisers=self.verbalisers,
            answer=None if self.answer is None else self.answer.built(),
            protected=self._protects(),
            aliases=tuple(self.aliases.items()),
            file=file,
        )


_RULES: Mapping[TaskKind, Callable[[TaskDefinition], Iterator[str]]] = {
    TaskKind.LABELS: TaskDefinition._label_problems,
    TaskKind.SPAN: TaskDefinition._span_problems,
    TaskKind.TEXT: TaskDefinition._text_problems,
}


def _refused_names(key: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not name.strip() or names.count(name) > 1:
            yield f"{key}: {name!r} {'is empty' if not name.strip() else 'is there twice'}"


def _unknown(key: str, names: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    noun = "label" if key == "aliases" else "field"
    for name in names:
        if name not in known:
            yield f"{key}: unknown {noun} {name!r}{nearest_of(name, known)}"


def _placeholders(template: str) -> Iterator[tuple[str, bool]]:
    """The contents of braces, and whether each is a bare name."""
    for _, name, form, conversion in Formatter().parse(template):
        if name is not None:
            yield name, not form and conversion is None


def _template_problems(key: str, template: str, fields: Sequence[str]) -> Iterator[str]:
    try:
        placeholders = list(_placeholders(template))
    except ValueError as error:
        yield f"{key}: {error}; a brace of the text itself is written twice"
        return
    for name, is_bare in placeholders:
        if name not in fields:
            yield f"{key}: unknown field {name!r}{nearest_of(name, fields)}"
        if not is_bare:
            yield f"{key}: {{{name}}} must be alone in its braces; take out the rest"
    names = [name for name, _ in placeholders]
    for name in fields:
        if name not in names:
            yield f"{key}: lacks the field {{{name}}}; use every field of the task"
