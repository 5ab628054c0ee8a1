"""Parts that definition files name by their kind: a constructor's signature says which keys a kind has."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import ConfigDict, SerializerFunctionWrapHandler, create_model, model_serializer

from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest
from robustness.definitions.reading import name_table, validate_content
from robustness.errors import DefinitionError


class Part(Definition):
    """A table of a definition file as it stands there: its keys are checked when its constructor is looked up."""

    model_config = ConfigDict(extra="allow")

    kind: str


class CheckedPart(Part):
    """A part whose keys are those of its constructor; an option left out changes no digest."""

    model_config = ConfigDict(extra="forbid")

    @model_serializer(mode="wrap")
    def _leave_out_the_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {name: value for name, value in write(self).items() if value is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """The kinds of one sort of part, each with the place of its constructor, which is imported when it is asked for.

    A place is `module:name` below the package. Parameters in `given` are the builder's; all others are keys of the
    part's table, with the types, limits and defaults of the signature.
    """

    places: Mapping[str, str]
    given: frozenset[str] = frozenset()

    def check(self, part: Part, path: str, table: Sequence[int | str]) -> CheckedPart:
        """Returns a part with its keys checked and its defaults filled in.

        Raises:
            DefinitionError: an unknown kind, an unknown or missing key, or a wrong type; it names `path` and `table`.
        """
        if part.kind not in self.places:
            raise DefinitionError(
                f"{path}{name_table(table)}: unknown 'kind' {part.kind!r}{nearest(part.kind, self.places)}"
            )
        content = json.loads(part.model_dump_json())
        return validate_content(content, schema_of(self, part.kind), path, [*table, part.kind])

    def build(self, part: CheckedPart, **given: object) -> Any:
        """Returns what the part's constructor makes of its keys and of the given objects that it asks for."""
        constructor = self.constructor(part.kind)
        wanted = inspect.signature(constructor).parameters
        keys = {name: getattr(part, name) for name in type(part).model_fields if name in wanted}
        return constructor(**keys, **{name: value for name, value in given.items() if name in wanted})

    def constructor(self, kind: str) -> Callable[..., Any]:
        """Returns the class or function that makes a part of this kind."""
        module, _, name = self.places[kind].partition(":")
        made: Callable[..., Any] = getattr(importlib.import_module(f"robustness.{module}"), name)
        return made

    def asks_for(self, kind: str, name: str) -> bool:
        """Whether the constructor takes a given object of this name."""
        return name in self.given and name in inspect.signature(self.constructor(kind)).parameters


@cache
def schema_of(kinds: Kinds, kind: str) -> type[CheckedPart]:
    """Returns the strict model of a kind's table: its constructor's parameters, but for the given ones."""
    constructor = kinds.constructor(kind)
    fields: dict[str, Any] = {"kind": (Literal[kind], ...)} | {
        name: (parameter.annotation, ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(constructor).parameters.items()
        if name not in kinds.given
    }
    return create_model(kind, __base__=CheckedPart, __module__=constructor.__module__, **fields)
