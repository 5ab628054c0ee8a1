"""Parsers and metrics that installed packages offer as entry points to functions."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from numbers import Real
from typing import final

from robustness.errors import UsageError, first_line
from robustness.tasks.text.parsed import ParsedAnswer, as_text

PARSERS_GROUP = "robustness.parsers"
"""Functions that take a response and return its answer as a text, or None."""
METRICS_GROUP = "robustness.metrics"
"""Functions that take an answer and a gold answer, as texts, and return a quality in [0, 1]; 1 is correct."""


@final
@dataclass(frozen=True, slots=True)
class Plugin:
    """One function of an installed package."""

    name: str
    function: Callable[..., object] = field(compare=False)
    digest: str
    """Digest of its source, because a changed function may answer differently."""

    def parse(self, response: str) -> ParsedAnswer | None:
        """Returns the function's answer in a response.

        Raises:
            TypeError: it returns neither a text nor None.
            Exception: any error of the function.
        """
        answer = self.function(response)
        if answer is not None and not isinstance(answer, str):
            raise TypeError(f"the parser {self.name} returned a {type(answer).__name__}; expected a text or None")
        return None if answer is None else as_text(answer)

    def rate(self, said: ParsedAnswer, gold: ParsedAnswer) -> float:
        """Returns the quality of an answer.

        Raises:
            ValueError: the function returns no number in [0, 1].
            Exception: any error of the function.
        """
        quality = self.function(said.text, gold.text)
        if not isinstance(quality, Real) or not 0 <= (number := float(quality)) <= 1 or math.isnan(number):
            raise ValueError(f"the metric {self.name} returned {quality!r}; expected a number in [0, 1]")
        return number


def plugin_names(group: str) -> list[str]:
    """Returns the names that installed packages offer."""
    return sorted(entry_points(group=group).names)


@cache
def find_plugin(group: str, name: str) -> Plugin:
    """Imports a package's function; an error names the group and what to do.

    Raises:
        UsageError: no package offers the name, it cannot be imported, or it is no function.
    """
    noun = group.rpartition(".")[2].removesuffix("s")
    for entry in entry_points(group=group, name=name):
        try:
            function = entry.load()
        except Exception as error:  # a third-party package may raise anything
            raise UsageError(
                f"{noun} {name}: the plug-in {entry.value} cannot be imported: {type(error).__name__}: "
                f"{first_line(error)}; mend or uninstall the package that offers it"
            ) from error
        if not callable(function) or isinstance(function, type):
            raise UsageError(f"{noun} {name}: the plug-in {entry.value} is no function; name one in the entry point")
        version = entry.dist.version if entry.dist is not None else ""
        return Plugin(name, function, _digest(function, version))
    raise UsageError(f"{noun} {name}: no installed package offers it in the group {group}; install it again")


def digest_plugins(found: Iterable[Plugin]) -> str:
    """Returns a digest of some functions' sources, 16 hexadecimal digits; empty without functions."""
    digests = "".join(plugin.digest for plugin in found)
    return hashlib.sha256(digests.encode()).hexdigest()[:16] if digests else ""


def _digest(function: Callable[..., object], version: str) -> str:
    """The module's source, because a function may call others; without a source, the package's version."""
    try:
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        source = f"{getattr(function, '__qualname__', '')} {version}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]
