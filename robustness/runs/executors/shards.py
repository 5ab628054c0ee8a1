"""Shards: pieces of cells for one worker at a time, longest cells first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from robustness.engine.named_attack import NamedAttack
from robustness.runs.cells import Cell
from robustness.runs.executors.executor import Work
from robustness.runs.planning.cost import ATTACKED_SHARE, count_passes, guess
from robustness.runs.workload import name_part
from robustness.testsets.example import Example

SHARD = 64
"""Maximum of examples in a shard; the loss when a worker dies."""
CUDA_SHARD = 512
"""The same on a GPU, which needs many searches side by side."""
SMALLEST = 8
"""Below this size a shard costs more to send than it gains."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Examples of a cell, as a job."""

    cell: Cell
    examples: tuple[Example, ...]
    cost: float
    """Of the whole cell, so that its shards stay together."""

    @property
    def key(self) -> str:
        """The cell in words."""
        return name_part(self.cell)

    @property
    def affinity(self) -> str:
        """The checkpoint."""
        return self.cell.checkpoint


def make_shards(
    missing: Sequence[Work], attacks: Mapping[str, NamedAttack], workers: int, largest: int
) -> list[Shard]:
    """Returns all work in shards, the costliest cell first.

    Examples of one group stay together, because their benign text is answered once.

    Args:
        missing: cells with the examples that lack an outcome.
        attacks: by name.
        workers: number of workers to keep busy.
        largest: maximum of examples in a shard, except for a larger group.
    """
    costs = {work.cell: estimate_cost(work, attacks.get(work.cell.attack)) for work in missing}
    return [
        Shard(work.cell, examples, costs[work.cell])
        for work in sorted(missing, key=lambda work: -costs[work.cell])
        for examples in _cut(work.examples, min(largest, max(SMALLEST, -(-len(work.examples) // workers))))
    ]


def estimate_cost(work: Work, attack: NamedAttack | None) -> float:
    """Returns a cell's estimated cost: passes as in `--dry-run`, times characters."""
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
