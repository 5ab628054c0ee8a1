"""A console that hostile text cannot steer."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

HOSTILE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters as they are shown: names and messages may hold a text that would steer the terminal."""


class SafeConsole(Console):
    """A console on which no printed text steers the terminal, cells of tables included."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Renders a string with its control characters written out."""
        return super().render_str(text.translate(HOSTILE), **options)
