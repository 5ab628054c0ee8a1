"""Slopes per token: effects on the logits of a step of a token's norm, or to the nearest other token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final
from weakref import WeakKeyDictionary

import torch

from robustness.sensitivity.measurement import Quantity
from robustness.sensitivity.probe import Reading
from robustness.victims.heads.embedded_batch import NORM_ROWS, median_token_norm
from robustness.victims.heads.head import Head
from robustness.victims.lookup import embedding_module, look_up

PER_EMBEDDING = "logits / embedding"
SAMPLED_TOKENS = 512
"""Tokens whose nearest other token is searched in the whole table; all tokens would take minutes."""

_distances: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


@final
@dataclass(frozen=True, slots=True)
class TokenUnits:
    """Lengths of a victim's embedding space: fine-tuning may change its scale and its neighbour distances."""

    token_norm: float
    """Median l2 norm of its token embeddings."""
    neighbour_distance: float
    """Median l2 distance from a token's embedding to the nearest other one."""

    @classmethod
    def of(cls, victim: Head) -> TokenUnits:
        """Returns a victim's lengths; measured once."""
        return cls(median_token_norm(victim), nearest_token_distance(victim))

    def add(self, reading: Reading) -> Iterator[Reading]:
        """Yields a reading; in logits per embedding also per token norm and per distance of neighbours.

        The added readings have the same kind, with `-per-token-norm` and `-per-neighbour` in the quantity's name.
        """
        yield reading
        measured = reading.measurement
        if measured.quantity.unit != PER_EMBEDDING or measured.value is None:
            return
        for name, length in (("token-norm", self.token_norm), ("neighbour", self.neighbour_distance)):
            quantity = per_length(measured.quantity, name)
            scaled = replace(measured, quantity=quantity, value=measured.value * length, forwards=0, backwards=0)
            yield replace(reading, measurement=scaled)


def per_length(quantity: Quantity, length: str) -> Quantity:
    """Returns the quantity of a slope per some length.

    >>> per_length(Quantity("jacobian-norm", PER_EMBEDDING), "neighbour").name
    'jacobian-norm-per-neighbour'
    """
    return replace(quantity, name=f"{quantity.name}-per-{length}", unit=f"logits / {length}")


def nearest_token_distance(victim: Head) -> float:
    """Returns the median over 512 evenly spaced tokens of the l2 distance to the nearest other token of the table.

    Untrained rows of a table may be equal, at distance 0; the median is robust to a minority of them.
    """
    if victim not in _distances:
        _distances[victim] = _measure_distance(victim)
    return _distances[victim]


def _measure_distance(victim: Head) -> float:
    count = len(embedding_module(victim.model).weight)
    chosen = torch.linspace(0, count - 1, min(count, SAMPLED_TOKENS), dtype=torch.float64).round().long()
    nearest = torch.full((len(chosen),), torch.inf, device=victim.device)
    with torch.no_grad():
        own = look_up(victim.model, chosen.to(victim.device))
        for start in range(0, count, NORM_ROWS):
            rows = torch.arange(start, min(start + NORM_ROWS, count), device=victim.device)
            distances = torch.cdist(own, look_up(victim.model, rows))
            distances[chosen.to(victim.device)[:, None] == rows] = torch.inf  # not its own neighbour
            nearest = torch.minimum(nearest, distances.amin(dim=1))
    return float(nearest.median())
