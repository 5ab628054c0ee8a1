"""Scores one search's candidates together: runs their common prefix once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch

from robustness.victims.generation.caches import holds, repeat
from robustness.victims.generation.causal import CausalModel
from robustness.victims.generation.reading import EMPTY, Continuation, Reading, read_along, read_batch

FORWARD_TOKENS = 32
"""Fixed cost of a forward pass in tokens: it reads all weights once."""
CUDA_FORWARD_TOKENS = 1_024
GROUP_TOKENS = 4_096
"""Maximum of rows in a group with a common prefix."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that run together after their common prefix."""

    indices: list[int]
    shared: int
    """Number of common first tokens, which are in the cache."""
    cache: Any
    """Has as many rows; None without a common prefix."""


def share(causal: CausalModel, rows: Sequence[tuple[int, ...]], most: Sequence[int]) -> Iterator[Group]:
    """Yields groups of rows with a common prefix, such as edits of one prompt; use up each cache at once.

    Rows are sorted by the place of their first edit and grouped about equally, the last edits first. The longest
    common prefix is run once, in one row, and its cache is cut from group to group.

    Args:
        causal: can cache.
        rows: tokens.
        most: maximum of shared first tokens of each row; fewer than it has.
    """
    trunk = _trunk(rows)
    places = [min(common(row, trunk), limit) for row, limit in zip(rows, most, strict=True)]
    order = sorted(range(len(rows)), key=lambda index: (places[index], rows[index]), reverse=True)
    prefix = _Prefix(causal)
    longest = max(map(len, rows))
    fixed = CUDA_FORWARD_TOKENS if causal.device.type == "cuda" else FORWARD_TOKENS
    size = min(best_size(len(rows), max(places) - min(places), fixed), max(1, GROUP_TOKENS // longest))
    keeps = True
    for group in np.array_split(order, -(-len(order) // size)):
        first, *others = (rows[index] for index in group)
        shared = min([most[index] for index in group] + [common(first, row) for row in others])
        if shared and keeps:
            prefix.move(first[:shared])
            keeps = holds(prefix.cache, longest)  # a window would forget the prefix
        is_shared = bool(shared) and keeps
        cache = repeat(prefix.cache, len(group)) if is_shared else None
        yield Group(group.tolist(), shared if is_shared else 0, cache)


def read_shared(causal: CausalModel, continuations: Sequence[Continuation]) -> list[Reading]:
    """Returns `read_along` up to rounding, for rows with a common prefix; equal rows have equal readings."""
    rows = list(dict.fromkeys(row for row in continuations if row.tokens))
    if len(rows) < 2 or not causal.can_cache:
        return read_along(causal, continuations)
    readings: dict[Continuation, Reading] = {}
    for group in share(causal, [row.whole for row in rows], [len(row.prompt) - 1 for row in rows]):
        members = [rows[index] for index in group.indices]
        readings |= zip(members, read_batch(causal, members, group.shared, group.cache), strict=True)
    return [readings.get(row, EMPTY) for row in continuations]


@final
@dataclass(slots=True)
class _Prefix:
    """Tokens processed in one row, with their cache."""

    causal: CausalModel
    tokens: tuple[int, ...] = ()
    cache: Any = field(default=None)

    def move(self, tokens: tuple[int, ...]) -> None:
        """Moves to other tokens: keeps the common prefix and runs the rest."""
        kept = common(self.tokens, tokens)
        if kept < len(self.tokens):
            # Negative: the number to remove, in transformers 4 and 5.
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


def best_size(rows: int, span: int, fixed: int) -> int:
    r"""Returns the best number of rows for a group.

    Of g rows whose first edits lie s/n tokens apart, each runs about gs/2n tokens more than it would alone. The n/g
    passes cost f tokens each: $$nf/g + gs/2$$ is least at $$g = \sqrt{2nf/s}$$.

    Args:
        rows: n.
        span: s, tokens between the first and the last place of edit.
        fixed: f.

    >>> best_size(24, span=43, fixed=32), best_size(24, span=260, fixed=32), best_size(5, span=0, fixed=32)
    (6, 2, 5)
    """
    return rows if span == 0 else min(rows, max(1, round((2 * rows * fixed / span) ** 0.5)))


def _trunk(rows: Sequence[tuple[int, ...]]) -> list[int]:
    """The majority's token at each place; for edits of one text, that text."""
    path: list[int] = []
    alive = [row for row in rows if row]
    while alive:
        place = len(path)
        path.append(Counter(row[place] for row in alive).most_common(1)[0][0])
        alive = [row for row in alive if row[place] == path[-1] and len(row) > place + 1]
    return path


def common(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of common first tokens."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)
