"""Candidates of one search read along together: what they begin with is run once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch

from robustness.victims.generation.caches import holds, repeat
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.reading import EMPTY, Continuation, Reading, read_along, read_batch

GROUP_ROWS = 4, 6
"""At least and at most, by how long rows are: of many rows the first edit comes too early, and of few short ones
matrices are too narrow."""
GROUP_TOKENS = 1_024
"""Of the rows of a group, their common prefix among them."""


def read_shared(causal: CausalModel, continuations: Sequence[Continuation]) -> list[Reading]:
    """Returns what `read_along` does, to rounding, of rows that begin alike, as the edits of one prompt do.

    Rows are sorted by the place of their first edit and read in groups of about equal size, the last edits first: the
    longest common prefix is run once, in one row, and its cache is cut from group to group.
    """
    readings = [EMPTY] * len(continuations)
    order = _by_place_of_edit([row.whole for row in continuations])[::-1]
    order = [index for index in order if continuations[index].tokens]
    if len(order) < 2 or not causal.can_cache:
        return read_along(causal, continuations)
    prefix = _Prefix(causal)
    longest = max(len(row.whole) for row in continuations)
    size = min(max(GROUP_TOKENS // longest, GROUP_ROWS[0]), GROUP_ROWS[1])
    for group in np.array_split(order, -(-len(order) // size)):
        rows = [continuations[index] for index in group]
        shared = min(common(rows[0].whole, row.whole) for row in rows)
        shared = min(shared, *(len(row.prompt) - 1 for row in rows))
        prefix.move(rows[0].whole[:shared])
        if shared and not holds(prefix.cache, max(len(row.whole) for row in rows)):
            return read_along(causal, continuations)
        cache = repeat(prefix.cache, len(rows)) if shared else None
        for index, reading in zip(group, read_batch(causal, rows, shared, cache), strict=True):
            readings[index] = reading
    return readings


@final
@dataclass(slots=True)
class _Prefix:
    """Tokens that have been run in one row, with their cache."""

    causal: CausalModel
    tokens: tuple[int, ...] = ()
    cache: Any = field(default=None)

    def move(self, tokens: tuple[int, ...]) -> None:
        """Holds other tokens: keeps those that are the same, and runs the rest."""
        kept = common(self.tokens, tokens)
        if kept < len(self.tokens):
            # Negative, which says how many go in both of transformers' lines.
            self.cache.crop(kept - len(self.tokens))
        if kept < len(tokens):
            ids = torch.tensor([tokens[kept:]], device=self.causal.device)
            places = torch.arange(kept, len(tokens), device=self.causal.device)[None]
            mask = ids.new_ones(1, len(tokens))
            step = self.causal.run(
                ids, mask, keep=1, positions=places, cache=self.cache if kept else None, caching=True
            )
            self.cache = step.cache
        self.tokens = tokens


def _by_place_of_edit(rows: Sequence[tuple[int, ...]]) -> list[int]:
    trunk = _trunk(rows)
    return sorted(range(len(rows)), key=lambda index: (common(rows[index], trunk), rows[index]))


def _trunk(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """What most rows go on with at each place: of edits of one text, that text."""
    path: list[int] = []
    alive = [row for row in rows if row]
    while alive:
        place = len(path)
        path.append(Counter(row[place] for row in alive).most_common(1)[0][0])
        alive = [row for row in alive if row[place] == path[-1] and len(row) > place + 1]
    return path


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many first tokens are the same."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)
