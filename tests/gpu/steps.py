"""Steps of a check: each runs under a time limit and ends as a row of ok, failed or skipped."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar

B = TypeVar("B")
WIDTH = 100
"""Columns of the table."""
NAME, FIGURE = 26, 56


class Result(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class StepError(Exception):
    """What a step found is not what it should be."""


class StepTimeout(BaseException):
    """A step ran past its limit; no Exception, so that code which survives a failing text does not survive this."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a step has to say."""

    figure: str
    """One line for the table."""
    details: dict[str, Any] = field(default_factory=dict)
    """For the JSON file."""


@dataclass(frozen=True, slots=True)
class Step(Generic[B]):
    """One check."""

    name: str
    run: Callable[[B], Found]
    needs: tuple[str, ...] = ()
    """Libraries beside torch, transformers, peft, numpy, scipy and pandas."""
    seconds: float = 90.0
    """Longer than it takes on a GPU of today; past it the step has failed."""


@dataclass(frozen=True, slots=True)
class Row:
    """How a step ended."""

    step: str
    result: Result
    figure: str
    """Or the reason."""
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


def require(condition: bool, reason: str) -> None:
    """Raises StepError with the reason unless the condition holds."""
    if not condition:
        raise StepError(reason)


def run_steps(
    steps: Sequence[Step[B]], subject: B, budget: float, lost: Callable[[], str | None], show: Callable[[Row], None]
) -> list[Row]:
    """Runs steps in their order, each within what is left of the budget.

    Args:
        steps: the most important first.
        subject: what each step is given.
        budget: seconds for all of them.
        lost: says why the device answers nothing any more, or None; asked after a step has failed.
        show: called with each row.
    """
    ends = time.perf_counter() + budget
    rows: list[Row] = []
    gone: str | None = None
    for step in steps:
        row = _skip(step, ends, budget, gone) or _run(step, subject, ends)
        if row.result is Result.FAILED:
            gone = lost()
        rows.append(row)
        show(row)
    return rows


def _skip(step: Step[B], ends: float, budget: float, gone: str | None) -> Row | None:
    missing = [name for name in step.needs if importlib.util.find_spec(name) is None]
    reason = (
        f"the device is lost: {gone}"
        if gone is not None
        else f"needs {', '.join(missing)}"
        if missing
        else f"the budget of {budget:g} s is spent"
        if time.perf_counter() >= ends
        else None
    )
    return None if reason is None else Row(step.name, Result.SKIPPED, reason, 0.0)


def _run(step: Step[B], subject: B, ends: float) -> Row:
    started = time.perf_counter()
    left = ends - started
    limit = min(step.seconds, left)
    result, details = Result.OK, {}
    try:
        with _limited(limit):
            found = step.run(subject)
        figure, details = found.figure, found.details
    except StepTimeout:
        result = Result.FAILED if limit == step.seconds else Result.SKIPPED
        figure = f"took more than {limit:.0f} s" + ("" if result is Result.FAILED else ", all that was left")
    except StepError as error:
        result, figure = Result.FAILED, str(error)
    except Exception as error:  # whatever a device does to a step, the others are to be tried
        result, figure = Result.FAILED, f"{type(error).__name__}: {error}"
    return Row(step.name, result, " ".join(figure.split()), time.perf_counter() - started, details)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(signum: int, frame: object) -> None:
        raise StepTimeout

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def header() -> str:
    """The table's first line."""
    return f"{'what':{NAME}} {'result':8} {'figure':{FIGURE}} {'s':>6}"


def line(row: Row) -> str:
    """A row of the table; what does not fit goes on in the lines below."""
    names = textwrap.wrap(row.step, NAME)
    figures = textwrap.wrap(row.figure[:600], FIGURE, break_on_hyphens=False) or [""]
    first = f"{names[0]:{NAME}} {row.result:8} {figures[0]:{FIGURE}} {row.seconds:6.1f}"
    more = (f"{name:{NAME}} {'':8} {figure}" for name, figure in zip_longest(names[1:], figures[1:], fillvalue=""))
    return "\n".join([first, *(text.rstrip() for text in more)])


def write_rows(path: Path, machine: dict[str, Any], rows: Sequence[Row]) -> None:
    """Writes what was found, also while later steps still run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "steps": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
