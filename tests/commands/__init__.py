"""The command line, called in the tests' own process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pytest

from robustness.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Call: TypeAlias = Callable[..., Done]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Returns what runs the command line and catches its output and exit code.

    Once Ctrl-C has happened, the command line leaves it to end the process; the tests' own process goes on.
    """

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["robustness", *arguments])
        capsys.readouterr()
        code, before = 0, signal.getsignal(signal.SIGINT)
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.signal(signal.SIGINT, before)
        return Done(code, *capsys.readouterr())

    return run


def one_paragraph(text: str) -> bool:
    """Whether it is one line without a traceback."""
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text
