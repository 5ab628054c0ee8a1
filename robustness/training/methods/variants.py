"""Variants of a method: the same method with other values of its adapter's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustness.definitions.catalog import Entry
from robustness.definitions.reading import name_table, validate_content
from robustness.errors import DefinitionError
from robustness.training.methods import MethodDefinition, find_method

IDENTITY = "peft_type"
"""The adapter's key that says which method it is."""
SHORT = {"rank": "r"}
"""Keys whose value follows a letter in a variant's name; all others are written out."""


def vary(
    method: Entry[MethodDefinition], parameters: Mapping[str, Any], where: str, within: Sequence[int | str] = ()
) -> Entry[MethodDefinition]:
    """Returns a method with other values of its adapter's parameters, under the variant's name.

    All else stays: with another `rank`, `alpha` keeps its value, as in LoRA's paper (arXiv 2106.09685, section 4.1).
    The settings of `--protocol paper` are of the method alone, so a variant has none.

    Args:
        method: the method.
        parameters: values by key; empty: the method itself.
        where: the file or option that gives them, in messages.
        within: the table of that file.

    Raises:
        DefinitionError: a key that the method's adapter does not have, or a value out of range.
    """
    if not parameters:
        return method
    adapter = method.definition.adapter
    if adapter is None:
        raise DefinitionError(
            f"{where}{name_table(within)}: {method.name!r} has no adapter, so it has no parameter "
            f"{next(iter(parameters))!r}; name it without parameters"
        )
    if IDENTITY in parameters:
        raise DefinitionError(
            f"{where}{name_table(within)}: key {IDENTITY!r} is what makes the method {method.name!r}; leave it out"
        )
    content = {**json.loads(adapter.model_dump_json()), **parameters}
    varied = validate_content(content, type(adapter), where, within)
    definition = method.definition.model_copy(update={"adapter": varied, "study": ()})
    return Entry(name_variant(method.name, parameters), method.path, definition)


def name_variant(method: str, parameters: Mapping[str, Any]) -> str:
    """Returns a variant's name in folders and tables: the method, then each varied key with its value.

    >>> name_variant("lora", {"rank": 8}), name_variant("lora", {"rank": 8, "alpha": 16})
    ('lora-r8', 'lora-r8-alpha-16')
    >>> name_variant("prompt", {"virtual_tokens": 20})
    'prompt-virtual-tokens-20'
    """
    words = [method]
    for key, value in parameters.items():
        spelled = "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value).lower()
        words.append(f"{SHORT[key]}{spelled}" if key in SHORT else f"{key.replace('_', '-')}-{spelled}")
    return "-".join(words)


def find_variant(reference: str) -> Entry[MethodDefinition]:
    """Returns the method of a name or a file, with the parameters that follow it: `lora:rank=8,alpha=16`.

    >>> find_variant("lora:rank=4").name
    'lora-r4'

    Raises:
        DefinitionError: no such method or parameter, a value out of range, or words that are no KEY=VALUE.
    """
    name, colon, given = reference.rpartition(":")
    if not colon or ("=" not in given and given.endswith(".toml")):
        return find_method(reference)
    parameters: dict[str, Any] = {}
    for words in given.split(","):
        key, equals, value = words.partition("=")
        if not (key and equals and value):
            raise DefinitionError(f"--method {reference}: expected NAME:KEY=VALUE, such as lora:rank=8")
        if key in parameters:
            raise DefinitionError(f"--method {reference}: key {key!r} is given twice")
        parameters[key] = _read(value)
    return vary(find_method(name), parameters, f"--method {reference}")


def _read(value: str) -> object:
    """A number, true or false as such; anything else is text."""
    try:
        return json.loads(value)
    except ValueError:
        return value
