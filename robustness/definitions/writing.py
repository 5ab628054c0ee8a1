"""Values as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping


def toml_value(value: object) -> str:
    r"""Returns a value in TOML; tables are inline.

    JSON's escapes are valid in TOML; JSON leaves only the delete character unescaped.

    >>> toml_value({"a b": ["x\n", 1, True]})
    '{ "a b" = ["x\\n", 1, true] }'
    """
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_value(str(key))} = {toml_value(each)}" for key, each in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
