"""A console that hostile text cannot steer, and what it shows while a run goes on."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
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


@contextmanager
def show_progress(console: Console) -> Iterator[Callable[[Any], None]]:
    """Bars of the cell and the run with the arms' live scores on a terminal; elsewhere plain lines for each cell."""
    from robustness.reports.summaries.terminal import render_cell

    if not console.is_terminal:
        seen: set[str] = set()

        def line(progress: Any) -> None:
            if progress.message not in seen:
                seen.add(progress.message)
                console.print(f"[{progress.done}/{progress.total}] {progress.message}", markup=False, soft_wrap=True)
            elif progress.cell is not None and progress.cell.done == progress.cell.total:
                text = f"[{progress.done}/{progress.total}] {progress.message}: {render_cell(progress.cell)}"
                console.print(text, markup=False, soft_wrap=True)

        yield line
        return
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    )
    cell = bars.add_task("this cell", total=None)
    run = bars.add_task("whole run", total=None)
    with Live(bars, console=console, transient=True) as live:
        shown = ""

        def update(progress: Any) -> None:
            nonlocal shown
            bars.update(run, completed=progress.done, total=progress.total)
            if progress.message != shown:
                bars.reset(cell)
            shown, now = progress.message, progress.cell
            bars.update(cell, completed=now.done if now else 0, total=now.total if now else None)
            # Above the bars, where names have a line of their own: beside them they would be cut off.
            lines = [Text(progress.message.translate(HOSTILE), overflow="fold")]
            if now:
                lines.append(Text(render_cell(now).translate(HOSTILE), style="dim", overflow="fold"))
            live.update(Group(*lines, bars))

        yield update
