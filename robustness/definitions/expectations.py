"""Describes in plain words what pydantic expected when it refused a value."""

from __future__ import annotations

from pydantic_core import ErrorDetails

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table of names with values",
    "mapping": "a table of names with values",
    "model": "a table",
    "path": "a path",
}
"""By the start of pydantic's error type."""
BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "string_too_short": "{min_length} or more characters",
    "too_short": "{min_length} or more entries",
    "string_too_long": "at most {max_length} characters",
    "too_long": "at most {max_length} entries",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
}


def expectation(problem: ErrorDetails) -> str:
    """Returns the expectation for a refused value; begins with "expected".

    >>> expectation({"type": "int_parsing", "loc": (), "msg": "", "input": "two"})
    'expected a whole number'
    >>> expectation({"type": "greater_than", "loc": (), "msg": "", "input": 0, "ctx": {"gt": 0}})
    'expected more than 0'
    """
    kind = problem["type"]
    if kind in BOUNDS:
        return f"expected {BOUNDS[kind].format_map(problem.get('ctx', {}))}"
    if kind in KINDS:
        return f"expected {KINDS[kind]}"
    family = KINDS.get(kind.partition("_")[0])
    if family is not None:
        return f"expected {family}"
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return said if said == problem["msg"] else f"expected {said}"
