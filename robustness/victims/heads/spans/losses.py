"""The loss of a question, from all its windows' start and end logits and the places of gold spans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

NO_GOLD_LOSS = -math.log(np.finfo(np.float64).smallest_subnormal)
"""Loss without any gold span: that of the smallest probability above 0, 744.4 nats."""


@final
@dataclass(slots=True)
class SpanMasses:
    r"""Log-masses of questions, gathered over their windows w.

    $$-\log \sum_{w, (a, b) \in G_w} \frac{e^{s_{w,a}}}{\sum_{v,i} e^{s_{v,i}}} \frac{e^{t_{w,b}}}{\sum_{v,j}
    e^{t_{v,j}}}$$ with start logits s, end logits t, sums over the paragraph's tokens of all windows, and the gold
    spans G_w of a window. Source: the shared normalisation and summed objective of arXiv 1710.10723, sections 3.2
    and 2.2.

    >>> masses = SpanMasses.none_yet(1)
    >>> masses.add(np.array([0, 0]), np.log([[2.0, 3.0, 1.0], [2.0, 1.0, 1e-99]]))
    >>> round(float(np.exp(-masses.losses()[0])), 6)  # 1 / ((2 + 2) * (3 + 1))
    0.0625
    """

    sums: NDArray[np.float64]
    """Log-sum-exp of starts, ends, and gold spans, shape (questions, 3)."""

    @classmethod
    def none_yet(cls, questions: int) -> SpanMasses:
        """Returns the masses without any window."""
        return cls(np.full((questions, 3), -np.inf))

    def add(self, owners: NDArray[np.int64], masses: NDArray[np.float64]) -> None:
        """Adds windows with their questions; masses as from `span_masses`."""
        with np.errstate(invalid="ignore"):  # nan stays nan
            np.logaddexp.at(self.sums, owners, masses)

    def losses(self) -> NDArray[np.float64]:
        """Returns the losses, shape (questions,); nan if a logit is nan."""
        starts, ends, gold = self.sums.T
        with np.errstate(invalid="ignore"):
            whole = starts + ends
            return np.where(np.isneginf(gold) & (whole < np.inf), NO_GOLD_LOSS, whole - gold)


def span_masses(
    starts: torch.Tensor, ends: torch.Tensor, allowed: torch.Tensor, gold: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Returns the log-sum-exp of starts, ends and gold spans, shape (windows, 3).

    Args:
        starts: start logits, shape (windows, tokens).
        ends: end logits.
        allowed: tokens of the paragraph, bool.
        gold: for each window the first and last tokens of its gold spans, shape (spans, 2).
    """
    first, last = (logits.double().masked_fill(~allowed, -torch.inf) for logits in (starts, ends))
    masses = torch.stack([first.logsumexp(dim=1), last.logsumexp(dim=1)], dim=1).cpu().numpy()
    spans = torch.full((len(gold), max(1, *map(len, gold))), -torch.inf, dtype=torch.float64)
    rows = np.repeat(np.arange(len(gold)), [len(each) for each in gold])
    if len(rows):
        places = torch.from_numpy(np.concatenate(gold)).to(starts.device)
        columns = np.concatenate([np.arange(len(each)) for each in gold])
        on_device = torch.from_numpy(rows).to(starts.device)
        spans[rows, columns] = (first[on_device, places[:, 0]] + last[on_device, places[:, 1]]).cpu()
    return np.column_stack([masses, torch.logsumexp(spans, dim=1).numpy()])
