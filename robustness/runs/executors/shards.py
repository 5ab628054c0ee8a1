"""Shards: pieces of cells for one worker at a time, longest cells first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from robustness.engine.named_attack import NamedAttack
from robustness.engine.outcome import Outcome
from robustness.runs.cells import Cell
from robustness.runs.executors.bench import RunBench, for_scores
from robustness.runs.executors.executor import Work, find_outcomes
from robustness.runs.planning.cost import ATTACKED_SHARE, count_passes, guess
from robustness.runs.storage.sink import gather
from robustness.runs.workload import name_part
from robustness.testsets.example import Example

SHARD = 64
"""Maximum of examples in a shard."""
CUDA_SHARD = 512
"""The same on a GPU, which needs many searches side by side."""
SMALLEST = 8
"""Below this size a shard costs more to send than it gains."""


@dataclass(frozen=True, slots=True)
class Found:
    """A shard's message: outcomes."""

    outcomes: tuple[Outcome, ...]
    truncated: frozenset[str]
    """Digests of newly truncated texts."""


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
        return for_scores(self.cell.checkpoint)

    def compute(self, bench: RunBench) -> Iterator[Found]:
        """Yields outcomes as they come; raises as `RunJob.compute`."""
        loaded = bench.load_scored(self.cell.checkpoint)
        attack = bench.definitions.attack(self.cell.attack)
        for outcomes in gather(find_outcomes(loaded.victim, loaded.cache, attack, self.examples, bench.seed)):
            yield Found(tuple(outcomes), loaded.take_truncated())


@dataclass(frozen=True, slots=True)
class Cutting:
    """How work is cut into pieces for workers."""

    workers: int
    """To keep busy."""
    largest: int
    """Maximum of examples in a shard, except for a larger group; the loss when a worker dies."""

    def size(self, count: int) -> int:
        """Returns the number of examples in a piece of work with `count` of them."""
        return min(self.largest, max(SMALLEST, -(-count // self.workers)))


def make_shards(work: Work, attack: NamedAttack | None, cutting: Cutting | None) -> list[Shard]:
    """Returns a cell's work in shards, or in one if it is not cut.

    Examples of one group stay together, because their benign text is answered once.

    Args:
        work: a cell with the examples that lack an outcome.
        attack: of the cell, or None.
        cutting: for workers; None in one process.
    """
    cost = estimate_cost(work, attack)
    if cutting is None:
        return [Shard(work.cell, work.examples, cost)]
    return [Shard(work.cell, part, cost) for part in cut_groups(work.examples, cutting.size(len(work.examples)))]


def estimate_cost(work: Work, attack: NamedAttack | None) -> float:
    """Returns a cell's estimated cost: passes as in `--dry-run`, times characters."""
    characters = sum(len(text) for example in work.examples for text in example.texts)
    if attack is None:
        return characters
    words = fmean(sum(len(example.texts[part].split()) for part in example.attacked) for example in work.examples)
    return characters * count_passes(1, ATTACKED_SHARE["clean"], guess(attack).at(words)).in_forwards


def cut_groups(examples: Sequence[Example], size: int) -> Iterator[tuple[Example, ...]]:
    """Yields examples in parts of about this size, each with whole groups."""
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
