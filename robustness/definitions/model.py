"""The strict, immutable base of every definition."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

DESCRIPTIVE_FIELDS = frozenset({"summary", "paper", "licence", "deviations", "mirrors"})


class Definition(BaseModel):
    """A part of a TOML file: immutable; refuses unknown keys and wrong types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    COUNTED_WHERE_SET: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not change the digest if a file omits them."""

    def behaviour_digest(self) -> str:
        """Sixteen hex digits that change whenever behaviour could; prose fields do not count."""
        behaviour = self.model_dump_json(exclude=dict.fromkeys(DESCRIPTIVE_FIELDS, True) | self._uncounted())
        return hashlib.sha256(behaviour.encode()).hexdigest()[:16]

    def _uncounted(self) -> dict[str, Any]:
        """Fields that do not count here, in parts of the file too, as pydantic excludes them."""
        found: dict[str, Any] = dict.fromkeys(self.COUNTED_WHERE_SET - self.model_fields_set, True)
        parts = ((name, value._uncounted()) for name, value in self if isinstance(value, Definition))
        return found | {name: inner for name, inner in parts if inner}
