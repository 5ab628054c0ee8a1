"""The two halves of a development set: one selects checkpoints, the other reports their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustness.testsets.drawing import proportional_order
from robustness.testsets.example import Example

_KEY = "halves"


@dataclass(frozen=True, slots=True)
class Halves:
    """A development set in two."""

    selecting: tuple[Example, ...]
    """Learning rate and epoch are chosen on these; empty if all rows are one group."""
    reporting: tuple[Example, ...]
    """No choice depends on these."""


def halve(examples: Sequence[Example]) -> Halves:
    """Splits a development set into halves in proportion to labels, with whole groups.

    A row's half depends only on texts, labels and groups, which a test set's digest covers. So a file, a shuffled
    copy and the hub agree.

    >>> rows = [Example(str(i), (f"text {i}",), label=int(i >= 6)) for i in range(8)]
    >>> halves = halve(rows)
    >>> [example.label for example in halves.selecting], [example.label for example in halves.reporting]
    ([0, 0, 0, 1], [0, 0, 0, 1])
    """
    selecting: set[int] = set()
    before = 0
    for group in proportional_order(examples, _KEY):
        if 2 * before + len(group) < len(examples):
            selecting.update(group)
        before += len(group)
    return Halves(
        selecting=tuple(example for index, example in enumerate(examples) if index in selecting),
        reporting=tuple(example for index, example in enumerate(examples) if index not in selecting),
    )
