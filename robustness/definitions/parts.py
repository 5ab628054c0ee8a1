"""Parts that definition files name by their kind: a constructor's signature says which keys a kind has."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, cast

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

    WRITTEN_WHEN_ABSENT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_the_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        kept = self.WRITTEN_WHEN_ABSENT
        return {name: value for name, value in write(self).items() if value is not None or name in kept}


Offered = Mapping[str, Callable[[], object]]
"""What a builder has for constructors that ask for it, by the parameter's name; made where it is asked for."""
Loaders = Mapping[str, Callable[[Any], object]]
"""What makes an object of the name that a file gives, by the type that the constructor asks for."""


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """The kinds of one sort of part, each with the place of its constructor, which is imported when it is asked for.

    A constructor's parameters are the keys of the part's table, with the types, limits and defaults of the signature.
    """

    places: Mapping[str, str]
    """`module:name` below the package."""
    given: frozenset[str] = frozenset()
    """Parameters that are no keys: the builder's own."""
    written_when_absent: frozenset[str] = frozenset()
    """Options that digests, which seed searches, have counted as null ever since they were left out."""
    ready: Mapping[str, Any] = field(default_factory=dict)
    """Parts that have no options, by kind."""
    named: Mapping[str, Any] = field(default_factory=dict)
    """Of objects that a file can but name: the type as signatures write it, and that of the name in the file."""

    def check(self, part: Part, path: str, table: Sequence[int | str]) -> CheckedPart:
        """Returns a part with its keys checked and its defaults filled in.

        Raises:
            DefinitionError: an unknown kind, an unknown or missing key, or a wrong type; it names `path` and `table`.
        """
        if part.kind not in self:
            where = f"{path}{name_table(table)}"
            raise DefinitionError(f"{where}: unknown 'kind' {part.kind!r}{nearest(part.kind, self)}")
        content = json.loads(part.model_dump_json())
        return validate_content(content, schema_of(self, part.kind), path, [*table, part.kind])

    def build(self, part: Part, offered: Offered | None = None, loaders: Loaders | None = None) -> Any:
        """Returns what a checked part's constructor makes of its keys and of what it asks for beside them."""
        if part.kind in self.ready:
            return self.ready[part.kind]
        made = {}
        for name, parameter in self.parameters(part.kind).items():
            if name not in self.given:
                load = (loaders or {}).get(parameter.annotation, _as_it_is)
                made[name] = load(getattr(part, name))
            elif offered and name in offered:
                made[name] = offered[name]()
        return self.constructor(part.kind)(**made)

    def constructor(self, kind: str) -> Callable[..., Any]:
        """Returns the class or function that makes a part of this kind, or is it where there is nothing to choose."""
        if kind in self.ready:
            return cast("Callable[..., Any]", self.ready[kind])
        module, _, name = self.places[kind].partition(":")
        made: Callable[..., Any] = getattr(importlib.import_module(f"robustness.{module}"), name)
        return made

    def parameters(self, kind: str) -> Mapping[str, inspect.Parameter]:
        """Returns what the constructor of a kind takes."""
        return {} if kind in self.ready else inspect.signature(self.constructor(kind)).parameters

    def __contains__(self, kind: str) -> bool:
        return kind in self.places or kind in self.ready

    def __iter__(self) -> Iterator[str]:
        return iter((*self.places, *self.ready))

    def asks_for(self, kind: str, name: str) -> bool:
        """Whether the constructor takes the builder's own parameter of this name."""
        return name in self.given and name in self.parameters(kind)


@cache
def schema_of(kinds: Kinds, kind: str) -> type[CheckedPart]:
    """Returns the strict model of a kind's table: its constructor's parameters that are keys."""
    keys: dict[str, Any] = {"kind": (Literal[kind], ...)}
    for name, parameter in kinds.parameters(kind).items():
        if name not in kinds.given:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            keys[name] = kinds.named.get(parameter.annotation, parameter.annotation), default
    module = kinds.constructor(kind).__module__  # in which annotations are looked up
    schema = create_model(kind, __base__=CheckedPart, __module__=module, **keys)
    schema.WRITTEN_WHEN_ABSENT = kinds.written_when_absent
    return schema


def _as_it_is(value: object) -> object:
    return value
