"""Draws rows from a list in proportion to labels, in whole groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from robustness.testsets.example import Example


def draw(examples: Sequence[Example], limit: int | None, key: str) -> tuple[Example, ...]:
    """Returns at most `limit` examples, drawn at random, in their original order.

    The draw depends only on `key`, texts, labels and groups, not on ids or the order of rows. Without groups, each of
    up to three labels gets its share of the draw to within one row (Webster's rule; Balinski and Young, Fair
    Representation, 1982). A limit cuts at most one group. A smaller limit draws a subset of a larger one.

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

    Groups with the same set of labels form a stratum; each group keeps its relative position in its stratum.
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
    """A random number from a group's contents, so that a shuffled copy of a file gives the same."""
    rows = sorted(json.dumps([e.texts, [answer.text for answer in e.answers] or e.label]) for e in group)
    return hashlib.sha256("\n".join([key, *rows]).encode()).digest()
