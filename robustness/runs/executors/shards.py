"""Shards: cells cut into pieces that one worker computes at a time, longest cells first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from robustness.engine.named_attack import NamedAttack
from robustness.runs.executors.executor import Work
from robustness.runs.planning.cost import ATTACKED_SHARE, count_passes, guess
from robustness.testsets.example import Example

SHARD = 64
"""Examples of a shard, at most; what a worker that dies has to do again."""
CUDA_SHARD = 512
"""On a GPU, which is fed only by many searches side by side."""
SMALLEST = 8
"""Below this a shard of a small test set costs more to hand over than it spreads."""


def make_shards(
    missing: Sequence[Work], attacks: Mapping[str, NamedAttack], workers: int, largest: int
) -> list[Work]:
    """Returns all work in shards, those of the costliest cell first.

    Examples of one group stay together: they share a benign text, which is answered once.

    Args:
        missing: cells with the examples that lack an outcome.
        attacks: by name.
        workers: how many are to be kept busy.
        largest: examples of one shard, but for a larger group.
    """
    order = sorted(missing, key=lambda work: -estimate_cost(work, attacks.get(work.cell.attack)))
    return [
        Work(work.cell, examples)
        for work in order
        for examples in _cut(work.examples, min(largest, max(SMALLEST, -(-len(work.examples) // workers))))
    ]


def estimate_cost(work: Work, attack: NamedAttack | None) -> float:
    """Returns about what a cell takes of its checkpoint: passes as `--dry-run` counts them, times characters read."""
    characters = sum(len(text) for example in work.examples for text in example.texts)
    if attack is None:
        return characters
    words = fmean(sum(len(example.texts[part].split()) for part in example.attacked) for example in work.examples)
    return characters * count_passes(1, ATTACKED_SHARE["clean"], guess(attack).at(words)).in_forwards


def _cut(examples: Sequence[Example], size: int) -> Iterator[tuple[Example, ...]]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group, []).append(example)
    shard: list[Example] = []
    for group in groups.values():
        if shard and len(shard) + len(group) > size:
            yield tuple(shard)
            shard = []
        shard += group
    yield tuple(shard)
