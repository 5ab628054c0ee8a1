"""The display of a running run: bars on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

from rich.text import Text

from robustness.terminal.console import HOSTILE, SafeConsole

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from robustness.progress import CellProgress, Progress

BAR = 24
"""Columns of a bar; with counts of seven digits and a time, a line of bars has less than 80."""
MINUTE = 60.0


@contextmanager
def show_progress(console: SafeConsole) -> Iterator[Callable[[Any], None]]:
    """Bars of the cell and of the run with the arms' live scores on a terminal; elsewhere a plain line a minute."""
    if console.is_terminal:
        from rich.live import Live

        screen = Screen()
        with Live(screen, console=console, transient=True):
            yield screen.update
        return
    lines = Lines(console)
    ended = threading.Event()
    ticking = threading.Thread(target=lines.tick, args=(ended,), daemon=True)
    ticking.start()
    try:
        yield lines.update
    finally:
        ended.set()
        ticking.join()


@contextmanager
def show_download(console: SafeConsole) -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar of the file that is being downloaded on a terminal; elsewhere nothing, for each file has a line."""
    if not console.is_terminal:
        yield lambda *_: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(bar_width=BAR), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    # Names are data: what looks like markup in one is printed.
    bars = Progress(TextColumn("{task.description}", markup=False), *columns, console=console, transient=True)
    with bars:
        task = bars.add_task("", total=None, visible=False)

        def count(name: str, received: int, total: int | None) -> None:
            if received < bars.tasks[0].completed:  # another file
                bars.reset(task)
            bars.update(task, description=name, completed=received, total=total, visible=True)

        yield count


@final
class Screen:
    """The bars, drawn from the last report."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._heard = 0.0

    def update(self, progress: Progress) -> None:
        """Takes a report."""
        self._progress, self._heard = progress, time.monotonic()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        progress = self._progress
        if progress is None:
            return
        # Above the bars, where names have lines of their own: beside them they would be cut off.
        yield Text(progress.message.translate(HOSTILE), overflow="fold")
        if progress.cell and (scores := describe_cell(progress.cell, options.max_width)):
            yield Text(scores.translate(HOSTILE), style="dim", overflow="fold")
        left = None if progress.seconds_left is None else progress.seconds_left - (time.monotonic() - self._heard)
        yield draw_bars(progress, left)


def draw_bars(progress: Progress, seconds_left: float | None) -> Any:
    """Returns a line for the part that runs, where its steps are counted, and one for the run with the time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    from robustness.runs.durations import spell_duration

    grid = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "right", "left"):
        grid.add_column(justify=justify, no_wrap=True)
    if progress.cell:
        done, total = progress.cell.done, progress.cell.total
        grid.add_row("this part", ProgressBar(total, done, BAR), f"{done:,}/{total:,}", "")
    left = "" if seconds_left is None else f"{spell_duration(max(0.0, seconds_left))} left"
    count = f"{progress.done:,}/{progress.total:,}"
    grid.add_row("whole run", ProgressBar(progress.total, progress.done, BAR), count, left)
    return grid


def describe_cell(cell: CellProgress, width: int) -> str:
    """Returns the arms' live scores and the speed: of many arms the running one, and as many as one line holds.

    >>> from robustness.progress import CellProgress, LiveScore
    >>> cell = CellProgress(40, 80, 312.4, (LiveScore("full", 0.5, 80), LiveScore("lora", 0.4, 40)))
    >>> describe_cell(cell, 80)
    'full 0.500 (n = 80)  lora 0.400 (n = 40)  312 queries/s'
    >>> describe_cell(cell, 40)
    'lora 0.400 (n = 40)  312 queries/s'
    """
    *others, mine = [f"{score.checkpoint} {score.accuracy:.3f} (n = {score.n})" for score in cell.scores] or [""]
    line = "  ".join([*filter(None, [mine]), *_speed(cell)])
    for other in reversed(others):
        if len(other) + 2 + len(line) > width:
            break
        line = f"{other}  {line}"
    return line


def _speed(cell: CellProgress) -> list[str]:
    return [f"{cell.queries_per_second:,.0f} queries/s"] if cell.queries_per_second >= 0.5 else []


@final
class Lines:
    """Plain lines: the first report at once, then the last one every minute, however many there are.

    Args:
        console: where they go.
    """

    def __init__(self, console: SafeConsole) -> None:
        self._console = console
        self._progress: Progress | None = None

    def update(self, progress: Progress) -> None:
        """Takes a report."""
        is_first, self._progress = self._progress is None, progress
        if is_first:
            self._tell(progress)

    def tick(self, ended: threading.Event, seconds: float = MINUTE) -> None:
        """Tells where the run stands each so many seconds, until it has ended."""
        while not ended.wait(seconds):
            if self._progress is not None:
                self._tell(self._progress)

    def _tell(self, progress: Progress) -> None:
        from robustness.runs.durations import spell_duration

        left = "" if progress.seconds_left is None else f", {spell_duration(progress.seconds_left)} left"
        self._console.tell(f"[{progress.done:,}/{progress.total:,}{left}] {progress.message}")
