"""Ctrl-C, handed on to who can say what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperGroup

RESUMABLE = frozenset({"demo", "generate", "run", "train"})
"""Commands that go on where they stopped when they are repeated."""


class Interrupted(Exception):  # noqa: N818 - the user's wish, no error
    """Ctrl-C, as something that typer hands on: of KeyboardInterrupt itself it says nothing."""


class Commands(TyperGroup):
    """The commands, with Ctrl-C handed on."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for; raises Interrupted on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


def describe_interruption(words: Sequence[str]) -> str:
    """Returns what to say to who has interrupted a command line, given without the program's name.

    >>> describe_interruption(["report", "run"]), describe_interruption(["run", "smoke"])
    ('interrupted', 'interrupted; the same command goes on where this one stopped')
    """
    return "interrupted" + ("; the same command goes on where this one stopped" if RESUMABLE & {*words[:1]} else "")
