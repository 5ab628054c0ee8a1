"""A console that hostile text cannot steer."""

from __future__ import annotations

import os
import re
import textwrap
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

NO_BREAK = "\x1f"
"""Stands for a space at which no line ends, while a text is folded."""
HOSTILE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters as they are shown: names and messages may hold a text that would steer the terminal."""


PASTED = re.compile(
    r"`[^`]+`|labels = \{.*? \}|--label (?:'[^']*'|\S)+(?: --label (?:'[^']*'|\S)+)*|run: robustness .+$|\{\".*?\}\}"
)
"""What a user copies out of a message: it stays on one line, for a line break inside would be copied too."""


def fold(text: str, width: int, indent: str = "") -> str:
    """Returns text in lines of so many columns, broken between words and outside of what is to be pasted.

    >>> print(fold("run `robustness list` to see all", 12, indent="  "))
    run
      `robustness list`
      to see all
    """
    bound = PASTED.sub(lambda match: match[0].replace(" ", NO_BREAK), text)
    lines = (
        textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in bound.split("\n")
    )
    return "\n".join(lines).replace(NO_BREAK, " ")


class SafeConsole(Console):
    """A console on which no printed text steers the terminal, cells of tables included, or turns into a picture."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, highlight=False, **options)

    @property
    def has_lines(self) -> bool:
        """Whether lines end at a width: on a terminal, or where COLUMNS says of how many; a pipe's are endless."""
        return self.is_terminal or "COLUMNS" in os.environ

    def tell(self, text: str, *, head: str = "", indent: str = "  ") -> None:
        """Prints plain text, folded between words where lines have a width, behind a head that is markup."""
        if self.has_lines:
            space = NO_BREAK * self.render_str(head).cell_len
            text = fold(f"{space}{text}", self.width, indent).removeprefix(" " * len(space))
        self.print(f"{head}{escape(text)}", soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """Renders a string with its control characters written out."""
        return super().render_str(text.translate(HOSTILE), **options)
