"""What fits the terminal: sentences broken between words, and tables whose rows stand below each other if need be."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from robustness.reports.summaries.wording import NO_BREAK, bind

WIDTH = 80
"""Columns that sentences are broken to, where there are as many."""
PIECES = re.compile(r"\s+|[\d.]+e-\d+|[^\s:/|=_-]*[:/|=_-]+|[^\s:/|=_-]+")
"""Of a name, between which it folds: words, and what a hyphen, slash, colon or equals sign ends."""
INDENT = "  "


@final
@dataclass(frozen=True, slots=True)
class Sentence:
    """Plain text that breaks between words; further lines are indented more."""

    text: str
    indent: str = ""
    style: str = ""

    def __str__(self) -> str:
        return self.broken(WIDTH)

    def broken(self, width: int) -> str:
        """Returns it in lines of so many columns."""
        lines = textwrap.fill(
            bind(self.text),
            width,
            initial_indent=self.indent,
            subsequent_indent=self.indent + INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return lines.replace(NO_BREAK, " ")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        lines = self.broken(min(WIDTH, options.max_width))
        yield console.render_str(escape(lines), style=self.style, overflow="fold")


@final
@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    heading: str
    """A line break in it is one of the table's heading alone."""
    is_name: bool = False
    """Names fold where the terminal is narrow; numbers never do."""
    is_number: bool = True
    min_width: int = 0

    def least(self, cells: Sequence[str]) -> int:
        """Columns of the terminal without which it cannot be read."""
        headings = [len(line) for line in self.heading.split("\n")]
        plain = [Text.from_markup(cell, emoji=False).plain for cell in cells]
        if self.is_name:
            return max([*(cell_len(piece) for cell in plain for piece in PIECES.findall(cell)), *headings])
        if self.min_width:  # words, between which it folds
            return max([self.min_width, *(cell_len(word) for cell in plain for word in cell.split())])
        return max([*map(cell_len, plain), *headings])


@final
@dataclass(slots=True)
class FittingTable:
    """A table where there is room for it; otherwise its rows, each of several lines.

    Cells are markup.
    """

    columns: Sequence[Column]
    padding: int = 0
    """Spaces on either side of a cell."""
    rows: list[Sequence[str]] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        least = self._least()
        if sum(least) + self._between <= options.max_width:
            floors = dict(zip(self.columns, least, strict=True))
            yield self._table(self._fitted(floors, options.max_width), floors)
            return
        for row in self.rows:
            yield from (console.render_str(line, overflow="fold") for line in self._stacked(row, options.max_width))

    @property
    def _between(self) -> int:
        return len(self.columns) * (2 * self.padding + 1) - 1

    def _least(self) -> list[int]:
        cells = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        return [column.least(own) for column, own in zip(self.columns, cells, strict=True)]

    def _fitted(self, floors: Mapping[Column, int], width: int) -> dict[Column, int]:
        """The widths of names: their own, or less if the room is short, the widest first."""
        names = {
            column: max(cell_len(Text.from_markup(row[place], emoji=False).plain) for row in self.rows)
            for place, column in enumerate(self.columns)
            if column.is_name and self.rows
        }
        others = sum(wide for column, wide in floors.items() if column not in names)
        while sum(names.values()) > width - self._between - others:
            widest = max((column for column in names if names[column] > floors[column]), key=names.__getitem__)
            names[widest] -= 1
        return names

    def _table(self, names: Mapping[Column, int], floors: Mapping[Column, int]) -> RichTable:
        table = RichTable(box=box.SIMPLE_HEAD, padding=(0, self.padding), show_edge=False)
        for column in self.columns:
            table.add_column(
                escape(column.heading),
                justify="right" if column.is_number and not column.is_name else "left",
                no_wrap=column.is_number and not column.is_name,
                overflow="ellipsis" if column.is_number and not column.is_name else "fold",
                # rich would narrow names as well as words, inside a word
                min_width=names.get(column) or (column.min_width and floors[column]),
            )
        for row in self.rows:
            cells = zip(self.columns, row, strict=True)
            table.add_row(*(fold_name(cell, names[column]) if column in names else cell for column, cell in cells))
        return table

    def _stacked(self, row: Sequence[str], width: int) -> Iterator[str]:
        """The names on a line of their own, then as many numbers a line as there is room for."""
        names = [cell for column, cell in zip(self.columns, row, strict=True) if column.is_name and cell]
        yield " | ".join(names)
        line, used = "", 0
        for column, cell in zip(self.columns, row, strict=True):
            if column.is_name or not cell:
                continue
            item = f"{escape(' '.join(column.heading.split()))} {cell}"
            length = Text.from_markup(item, emoji=False).cell_len
            if line and used + len(INDENT) + length > width:
                yield line
                line, used = "", 0
            line, used = f"{line}{INDENT}{item}", used + len(INDENT) + length
        if line:
            yield line


def fold_name(cell: str, width: int) -> str:
    """Returns a name, markup without styles, in lines of so many columns: broken after a hyphen, not inside a word.

    >>> fold_name("adversarial-distance", 14).split(chr(10))
    ['adversarial-', 'distance']
    >>> fold_name("lipschitz-upper, radius 2e-05", 14).split(chr(10))
    ['lipschitz-', 'upper, radius', '2e-05']
    """
    return escape("\n".join(fold_words(Text.from_markup(cell, emoji=False).plain, width)))


def fold_words(name: str, width: int) -> list[str]:
    """Returns a name in lines of so many columns, and wider ones where a word has more.

    >>> fold_words("rank=16", 8), fold_words("learning_rate=0.0003", 8)
    (['rank=16'], ['learning_', 'rate=', '0.0003'])
    """
    lines = [""]
    for piece in PIECES.findall(name):
        if lines[-1] and cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] = (lines[-1] + piece).lstrip()
    return [line.rstrip() for line in lines if line.strip()]


Part: TypeAlias = FittingTable | Sentence | str
"""What a screen is made of; a string is one line, markup, that the terminal breaks where it likes, such as paths."""
