"""The command line, called in the tests' own process."""

from __future__ import annotations

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
    """Returns what runs the command line and catches its output and exit code."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["robustness", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def one_paragraph(text: str) -> bool:
    """Whether it is one line without a traceback."""
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text
