"""What a person sees while a run goes on."""

from __future__ import annotations

import re
import threading
from io import StringIO

import pytest

from robustness.progress import CellProgress, LiveScore, Progress
from robustness.terminal.console import SafeConsole
from robustness.terminal.progress_display import Lines, Screen, describe_cell, show_download

LONG = "runs/2026-11/llama-3.2-1b-instruct-qlora-r64-alpha128-seed3-epoch2 | advsquad-addanyextend | input-reduction"
SCORES = tuple(LiveScore(f"checkpoint-of-some-length-{i}", 0.5, 12_345) for i in range(9))


def drawn(progress: Progress, width: int = 80) -> list[str]:
    """The lines of the screen."""
    written = StringIO()
    screen = Screen()
    screen.update(progress)
    SafeConsole(file=written, force_terminal=True, width=width).print(screen)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).splitlines()


def test_at_eighty_columns_bar_count_and_time_left_are_whole_beside_long_names() -> None:
    cell = CellProgress(12_345, 123_456, 12_345.0, SCORES)

    lines = drawn(Progress(LONG, 1_234_567, 9_999_999, cell, 400_000.0))

    assert "".join(line.strip() for line in lines[:2]).replace(" ", "") == LONG.replace(" ", "")
    assert lines[-2].split()[:2] == ["this", "part"] and lines[-2].rstrip().endswith("12,345/123,456")
    assert lines[-1].split()[:2] == ["whole", "run"]
    assert lines[-1].rstrip().endswith("1,234,567/9,999,999 4.6 days left")
    assert lines[-1].count("\u2501") + lines[-1].count("\u2578") + lines[-1].count("\u257a") >= 24
    assert len(lines) == 5 and max(map(len, lines)) <= 80


def test_before_anything_is_timed_no_time_is_told() -> None:
    assert drawn(Progress("checking the pairs", 0, 80))[-1].rstrip().endswith("0/80")


def test_a_part_without_scores_has_a_bar_and_no_line_for_them() -> None:
    lines = drawn(Progress("tiny-lora | checking the pairs", 0, 80, CellProgress(3, 12)))

    assert lines[0].strip() == "tiny-lora | checking the pairs" and len(lines) == 3
    assert lines[1].split()[:2] == ["this", "part"] and lines[1].rstrip().endswith("3/12")


def test_of_many_arms_the_running_one_is_shown_and_as_many_as_one_line_holds() -> None:
    """The line grew with every arm."""
    shown = describe_cell(CellProgress(1, 2, 100.0, SCORES), 80)

    assert len(shown) <= 80
    assert shown == "checkpoint-of-some-length-8 0.500 (n = 12345)  100 queries/s"


class Ticks(threading.Event):
    """A minute passes at each wait, until so many have."""

    def __init__(self, minutes: int) -> None:
        super().__init__()
        self._left = minutes

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout == 60
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("minutes", [0, 3])
def test_without_a_terminal_there_is_a_line_at_once_and_one_a_minute(
    minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    written = StringIO()
    lines = Lines(SafeConsole(file=written))
    lines.update(Progress("checking the pairs", 0, 2_000))
    for done in range(1_500):
        lines.update(Progress(LONG, done, 2_000, CellProgress(1, 2, 9.0, SCORES), 754.0))

    lines.tick(Ticks(minutes))

    assert written.getvalue().splitlines() == [
        "[0/2,000] checking the pairs",
        *[f"[1,499/2,000, 13 min left] {LONG}"] * minutes,
    ]


def test_a_download_has_a_bar_on_a_terminal_and_nothing_elsewhere() -> None:
    written, piped = StringIO(), StringIO()

    with show_download(SafeConsole(file=written, force_terminal=True, width=80)) as count:
        count("wordnet", 5_000_000, 10_775_600)
        count("wordnet", 10_775_600, 10_775_600)
    with show_download(SafeConsole(file=piped)) as count:
        count("wordnet", 5_000_000, 10_775_600)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    assert "wordnet" in shown and "10.8/10.8 MB" in shown
    assert max(len(line.split("\r")[-1]) for line in shown.splitlines()) <= 80
    assert piped.getvalue() == ""
