"""Parts of definition files: each kind takes its keys from a constructor's signature."""

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
    """An unchecked table of a definition file; its keys are checked when its constructor is found."""

    model_config = ConfigDict(extra="allow")

    kind: str


class CheckedPart(Part):
    """A part with keys checked by its constructor; an omitted option changes no digest."""

    model_config = ConfigDict(extra="forbid")

    WRITTEN_WHEN_ABSENT: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_the_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        kept = self.WRITTEN_WHEN_ABSENT
        return {name: value for name, value in write(self).items() if value is not None or name in kept}


Offered = Mapping[str, Callable[[], object]]
"""A builder's objects for constructors, by the parameter's name; created on demand."""
Loaders = Mapping[str, Callable[[Any], object]]
"""Functions from a name in a file to an object, by the type of the constructor's parameter."""


@dataclass(frozen=True, slots=True, eq=False)
class Kinds:
    """The kinds of one sort of part, each with the place of its constructor, imported on demand.

    A constructor's parameters are the keys of the part's table, with the types, limits and defaults of the signature.
    """

    places: Mapping[str, str]
    """`module:name` below the package."""
    given: frozenset[str] = frozenset()
    """Parameters that are not keys, because the builder gives them."""
    written_when_absent: frozenset[str] = frozenset()
    """Options that digests (which seed searches) count as null if omitted."""
    ready: Mapping[str, Any] = field(default_factory=dict)
    """Parts without options, by kind."""
    named: Mapping[str, Any] = field(default_factory=dict)
    """Objects that a file can only name: the type in signatures, and the type of the name in the file."""

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
        """Returns the object that a checked part's constructor makes from its keys and the builder's objects."""
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
        """Returns the class or function that makes a part of this kind, or the part itself if it has no options."""
        if kind in self.ready:
            return cast("Callable[..., Any]", self.ready[kind])
        module, _, name = self.places[kind].partition(":")
        made: Callable[..., Any] = getattr(importlib.import_module(f"robustness.{module}"), name)
        return made

    def parameters(self, kind: str) -> Mapping[str, inspect.Parameter]:
        """Returns the parameters of a kind's constructor."""
        return {} if kind in self.ready else inspect.signature(self.constructor(kind)).parameters

    def __contains__(self, kind: str) -> bool:
        return kind in self.places or kind in self.ready

    def __iter__(self) -> Iterator[str]:
        return iter((*self.places, *self.ready))

    def asks_for(self, kind: str, name: str) -> bool:
        """Whether the constructor takes the builder's parameter of this name."""
        return name in self.given and name in self.parameters(kind)


@cache
def schema_of(kinds: Kinds, kind: str) -> type[CheckedPart]:
    """Returns the strict model of a kind's table, from the constructor's parameters that are keys."""
    keys: dict[str, Any] = {"kind": (Literal[kind], ...)}
    for name, parameter in kinds.parameters(kind).items():
        if name not in kinds.given:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            keys[name] = kinds.named.get(parameter.annotation, parameter.annotation), default
    module = kinds.constructor(kind).__module__  # the namespace of the annotations
    schema = create_model(kind, __base__=CheckedPart, __module__=module, **keys)
    schema.WRITTEN_WHEN_ABSENT = kinds.written_when_absent
    return schema


def _as_it_is(value: object) -> object:
    return value
