"""Ctrl-C, handed on to who can say what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

from robustness.errors import UsageError

RESUMABLE = frozenset({"demo", "generate", "run", "study", "train"})
"""Commands that resume when they are repeated."""


NUMBERS = {"integer": "a whole number", "float": "a number", "number": "a number"}
"""What typer calls a number, and we do."""


class Interrupted(Exception):  # noqa: N818 - the user's wish, no error
    """Ctrl-C, as something that typer hands on: of KeyboardInterrupt itself it says nothing."""


class Commands(TyperGroup):
    """The commands, with Ctrl-C handed on and numbers that are none told in our own words."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for; raises Interrupted on Ctrl-C, UsageError for what is no number."""
        words = [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            wanted = next((said for kind, said in NUMBERS.items() if kind in error.format_message()), "")
            option = next(iter(getattr(error.param, "opts", ())), "")
            given = [word for word in _values(words, option) if not _is_number(word, wanted)] if wanted else []
            if not given:
                raise
            raise UsageError(f"{option} {given[0]}: expected {wanted}") from None
        except KeyboardInterrupt:
            raise Interrupted from None


def _values(words: Sequence[str], option: str) -> list[str]:
    """What a command line gives an option, each time."""
    joined = [word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}=")]
    return [value for word, value in pairwise(words) if word == option] + joined


def _is_number(word: str, wanted: str) -> bool:
    try:
        (int if wanted == NUMBERS["integer"] else float)(word)
    except ValueError:
        return False
    return True


def describe_interruption(words: Sequence[str]) -> str:
    """Returns the message after an interruption of a command line, given without the program's name.

    >>> describe_interruption(["report", "run"]), describe_interruption(["run", "smoke"])
    ('interrupted', 'interrupted; the same command resumes')
    """
    resumes = (RESUMABLE & {*words[:1]} or [*words[:2]] == ["assets", "get"]) and "--dry-run" not in words
    return "interrupted" + ("; the same command resumes" if resumes else "")
