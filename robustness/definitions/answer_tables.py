"""The table `[answer]` of a text task's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest_of
from robustness.tasks.patterns import compile_pattern
from robustness.tasks.text.answering import TextAnswer
from robustness.tasks.text.metrics import PARSER_OF, TextMetric
from robustness.tasks.text.numbers import NumberRule
from robustness.tasks.text.parsers import PARSERS
from robustness.tasks.text.plugins import (
    METRICS_GROUP,
    PARSERS_GROUP,
    digest_plugins,
    find_plugin,
    plugin_names,
)


class AnswerTable(Definition):
    """`[answer]`: the end of a response, the parser of its answer, and the metric."""

    parser: str
    """A name in PARSERS, or a plug-in's name."""
    metric: str
    """A name in TextMetric, or a plug-in's name."""
    threshold: float | None = Field(None, gt=0, le=1)
    """The least quality of a correct answer; None: the metric's match."""
    marker: str | None = None
    """For the parsers number and after-marker: the text before the answer."""
    rule: NumberRule | None = None
    """For the parser number: which number counts."""
    pattern: str | None = None
    """For the parser regex."""
    max_new_tokens: PositiveInt = 128
    stop: tuple[str, ...] = ()
    lead: str = ""
    """Text between prompt and gold text."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        for key, name, known in (
            ("parser", self.parser, [*PARSERS, *plugin_names(PARSERS_GROUP)]),
            ("metric", self.metric, [*TextMetric, *plugin_names(METRICS_GROUP)]),
        ):
            if name not in known:
                yield f"{key}: unknown {key} {name!r}{nearest_of(name, known)}"
                return
        made = PARSERS.get(self.parser)
        taken = {} if made is None else {field.name: field for field in fields(made)}  # type: ignore[arg-type]
        for name in self._options():
            if name not in taken:
                yield f"{name}: the parser {self.parser} takes no {name}; take it out"
        for name, field in taken.items():
            if field.default is MISSING and name not in self._options():
                yield f'{name}: the parser {self.parser} needs it; add {name} = "..."'
        if self.marker == "":
            yield "marker: is empty; give the text before the answer"
        yield from self._pattern_problems()
        needed = PARSER_OF.get(self.metric, self.parser)
        if needed != self.parser:
            yield f'metric: {self.metric} reads answers of parser = "{needed}"; the parser is {self.parser!r}'
        if "" in self.stop:
            yield "stop: an empty string ends every response before its first token; take it out"

    def _pattern_problems(self) -> Iterator[str]:
        try:
            compile_pattern(self.pattern or "")
        except ValueError as error:
            yield f"pattern: {self.pattern!r} {error}"

    def _options(self) -> Mapping[str, Any]:
        given = {"marker": self.marker, "rule": self.rule, "pattern": self.pattern}
        return {name: value for name, value in given.items() if value is not None}

    def built(self) -> TextAnswer:
        """Returns the table in the form of tasks.

        Raises:
            UsageError: a plug-in cannot be imported.
        """
        given = {field.name: getattr(self, field.name) for field in fields(TextAnswer) if field.name != "code"}
        plugins = [find_plugin(PARSERS_GROUP, self.parser)] if self.parser not in PARSERS else []
        plugins += [find_plugin(METRICS_GROUP, self.metric)] if self.metric not in list(TextMetric) else []
        return TextAnswer(**given, code=digest_plugins(plugins))
