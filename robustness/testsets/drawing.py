"""Rows taken out of a list in proportion: by label, in whole groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from robustness.testsets.example import Example


def draw(examples: Sequence[Example], limit: int | None, key: str) -> tuple[Example, ...]:
    """Returns at most `limit` examples, drawn at random, in the order in which they stand.

    Which ones depends on `key`, texts, labels and groups alone, not on ids or the order of rows. Where no rows are
    grouped, each of up to three labels has its share of the draw, give or take less than one row (Webster's rule;
    Balinski and Young, Fair Representation, 1982). A limit cuts one group at most. A smaller limit draws a part of
    what a larger one draws.

    >>> rows = [Example(str(i), (f"text {i}",), label=int(i >= 6)) for i in range(8)]
    >>> [example.label for example in draw(rows, 4, "seed 0")]
    [0, 0, 0, 1]
    """
    if limit is None or limit >= len(examples):
        return tuple(examples)
    drawn = [index for group in proportional_order(examples, key) for index in group][:limit]
    return tuple(examples[index] for index in sorted(drawn))


def proportional_order(examples: Sequence[Example], key: str) -> list[list[int]]:
    """Returns the groups of examples, as indices, shuffled by `key` and spread by label: every beginning is a sample.

    Groups with the same set of labels make a stratum; the middle of each group stands where it stands in its stratum.
    """
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.group, []).append(index)
    strata: dict[tuple[int, ...], list[list[int]]] = {}
    for group in groups.values():
        strata.setdefault(tuple(sorted({examples[index].label for index in group})), []).append(group)
    placed: list[tuple[float, tuple[int, ...], list[int]]] = []
    for labels, stratum in strata.items():
        total, before = sum(map(len, stratum)), 0
        for group in sorted(stratum, key=lambda group: _shuffled([examples[index] for index in group], key)):
            placed.append(((2 * before + len(group)) / (2 * total), labels, group))
            before += len(group)
    return [group for _, _, group in sorted(placed, key=lambda each: each[:2])]


def _shuffled(group: Sequence[Example], key: str) -> bytes:
    """A random number of a group's contents: a shuffled copy of a file has the same."""
    rows = sorted(json.dumps([e.texts, [answer.text for answer in e.answers] or e.label]) for e in group)
    return hashlib.sha256("\n".join([key, *rows]).encode()).digest()
