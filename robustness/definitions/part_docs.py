"""Describes a kind of part and its keys in words, from its constructor."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from robustness.definitions.parts import Kinds, schema_of

_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
_ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


def summarise_kind(kinds: Kinds, kind: str) -> str:
    """Returns the first line of the docstring of a kind's constructor."""
    return _docstring(kinds.constructor(kind)).partition("\n")[0]


def describe_kind(kinds: Kinds, kind: str) -> Iterator[str]:
    """Yields a kind's description, then each of its keys with type, limits, default and meaning."""
    yield f'kind = "{kind}": {summarise_kind(kinds, kind)}'
    schema = schema_of(kinds, kind).model_json_schema()
    meanings = field_meanings(kinds.constructor(kind))
    for key, node in schema["properties"].items():
        if key == "kind":
            continue
        needed = "" if key in schema["required"] else f"; {_default(node)}"
        meaning = meanings.get(key, "")
        yield f"  {key}: {_type(node, schema)}{needed}{meaning and f' - {meaning}'}"


def _docstring(constructor: Callable[..., Any]) -> str:
    return inspect.getdoc(constructor) or ""


def field_meanings(constructor: Callable[..., Any]) -> dict[str, str]:
    """By parameter: the constructor's `Args:`, or the docstrings below the fields of a class and its bases."""
    found = {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(_docstring(constructor))}
    if not inspect.isclass(constructor):
        return found
    home = constructor.__module__.partition(".")[0]
    for each in reversed(inspect.getmro(constructor)):
        if each.__module__.partition(".")[0] == home:  # not a library's
            found |= dict(_own_meanings(each))
    return found


def _own_meanings(kind: type) -> Iterator[tuple[str, str]]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, below in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text):
            continue
        if "ClassVar" not in ast.unparse(field.annotation):
            yield field.target.id, " ".join(str(below.value.value).split())  # type: ignore[attr-defined]


def _type(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A type of JSON schema in words.

    >>> _type({"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "minItems": 1}, {})
    'list of integer > 0, at least 1'
    """
    if "$ref" in node:
        return _type(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in node:
        return " or ".join(_type(each, schema) for each in node["anyOf"] if each.get("type") != "null")
    if "enum" in node:
        return " or ".join(f'"{value}"' for value in node["enum"])
    if node.get("type") == "array":
        least = f", at least {node['minItems']}" if "minItems" in node else ""
        return f"list of {_type(node['items'], schema)}{least}"
    limits = " and ".join(f"{sign} {node[limit]:g}" for limit, sign in _LIMITS.items() if limit in node)
    return f"{_TYPES.get(node.get('type', ''), 'anything')} {limits}".strip()


def _default(node: Mapping[str, Any]) -> str:
    value = node.get("default")
    if value is None:
        return "may be left out"
    return f"left out: {str(value).lower() if isinstance(value, bool) else value}"
