"""Reads TOML files into definitions; errors name file, table, key and the nearest right name."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from robustness.definitions.expectations import expectation
from robustness.definitions.model import Definition
from robustness.definitions.naming import nearest, nearest_of, suggest
from robustness.errors import DefinitionError

D = TypeVar("D", bound=Definition)
NAMES_OR_TABLES = ("task",)
"""Keys with the name of a definition, or the definition itself as a table."""


def read_definition(path: Path, model: type[D]) -> D:
    """Reads one TOML file strictly by its model.

    Raises:
        DefinitionError: no such file, not UTF-8, not TOML, an unknown key, a missing key or a wrong type.
    """
    return validate_content(read_content(path), model, str(path))


def read_content(path: Path) -> dict[str, Any]:
    """Returns a TOML file's content; raises DefinitionError for an invalid file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows editors write a byte order mark
    except FileNotFoundError:
        beside = [each.name for each in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise DefinitionError(f"{path}: no such file{suggest(path.name, beside)}") from None
    except IsADirectoryError:
        raise DefinitionError(f"{path}: a folder; expected a TOML file") from None
    except OSError as error:
        raise DefinitionError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{path}: not TOML: {error}") from None
    except (RecursionError, ValueError) as error:  # deeply nested brackets, an invalid date or number
        raise DefinitionError(f"{path}: TOML is too deeply nested or has an invalid value: {error}") from None


def validate_content(
    content: Mapping[str, object], model: type[D], where: str, within: Sequence[int | str] = ()
) -> D:
    """Returns the definition in a TOML file, or in its table `within`.

    Raises:
        DefinitionError: it holds no valid definition; the message begins with `where`.
    """
    try:
        # JSON mode is strict about types but accepts a list for a tuple, which TOML lacks.
        return model.model_validate_json(json.dumps(content, default=_date))
    except ValidationError as error:
        raise DefinitionError(_explain(where, model, min(error.errors(), key=_rank), within)) from None


def _rank(problem: ErrorDetails) -> tuple[bool, bool]:
    """Prefers "unknown" to "missing" for a mistyped key; for a table in place of a name, the table's own faults."""
    is_table_for_a_name = problem["type"] == "string_type" and isinstance(problem["input"], dict)
    return is_table_for_a_name, problem["type"] != "extra_forbidden"


def _explain(path: str, model: type[Definition], problem: ErrorDetails, within: Sequence[int | str]) -> str:
    kind = problem["type"]
    *parents, key = _without_types(problem["loc"]) or ("",)
    table = f"{path}{name_table([*within, *parents])}"
    inner = f"{path}{name_table([*within, *parents, key])}"
    if kind == "value_error":
        is_table = isinstance(problem["input"], dict)  # keys that do not fit together
        whole = inner if key else table
        return f"{whole if is_table else f'{table}: key {key!r}'}: {problem['msg'].removeprefix('Value error, ')}"
    if kind == "extra_forbidden":
        return f"{table}: unknown key {key!r}{nearest(str(key), _known_keys(model, parents))}"
    if kind == "missing":
        return f"{table}: missing key {key!r}"
    context = problem.get("ctx", {})
    if kind == "union_tag_invalid":
        tags = [tag.strip().strip("'") for tag in str(context["expected_tags"]).split(",")]
        return f"{inner}: unknown {context['discriminator']} {context['tag']!r}{nearest_of(context['tag'], tags)}"
    if kind in ("literal_error", "enum") and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"{table}: key {key!r}: unknown {problem['input']!r}{nearest_of(problem['input'], known)}"
    if kind == "union_tag_not_found":
        return f"{inner}: missing key {context['discriminator']}"
    return f"{table}: key {key!r}: {expectation(problem)}; got {problem['input']!r}"


def _without_types(location: Sequence[int | str]) -> list[int | str]:
    """If a key holds a name or a table, as `task` does, pydantic adds the type to the key."""
    return [part for i, part in enumerate(location) if not (i == 1 and location[0] in NAMES_OR_TABLES)]


def name_table(location: Sequence[int | str]) -> str:
    """A place in TOML's notation; list positions count from 1."""
    words = [f"#{part + 1}" if isinstance(part, int) else part for part in location]
    return f" [{'.'.join(words)}]" if words else ""


def _known_keys(model: type[Definition], parents: list[int | str]) -> list[str]:
    """The keys of the table at `parents`, a pydantic location: keys, list positions and kinds of parts."""
    node = schema = _schema(model)
    for part in parents:
        if isinstance(part, int):
            node = node["items"]
        elif "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        else:
            node = node["properties"][part]
        node = _follow(node, schema)
    return list(node["properties"])


@cache
def _schema(model: type[Definition]) -> dict[str, Any]:
    return model.model_json_schema()


def _follow(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", ()):  # an optional table
        if "$ref" in option or "discriminator" in option:
            node = option
    if "$ref" not in node:
        return node
    table: dict[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return table


def _date(value: object) -> dict[str, str]:
    """Replaces TOML's dates and times by values that no definition accepts as text."""
    return {"date": str(value)}
