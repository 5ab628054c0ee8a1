"""The rows of questions, gathered over their windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.grading import Rows
from robustness.testsets.example import Example
from robustness.victims.heads.spans.best import TopSpans, top_spans
from robustness.victims.heads.spans.gold import find_gold_spans
from robustness.victims.heads.spans.losses import SpanMasses, span_masses
from robustness.victims.heads.spans.windows import ANSWER_TOKENS, Windows

Part = tuple[NDArray[np.float64], TopSpans]
"""The masses and best spans of a batch of windows."""


@final
class SpanRows:
    """Losses and answers of questions.

    Args:
        asked: the questions.
        windows: the questions' windows.
    """

    def __init__(self, asked: Sequence[Example], windows: Windows) -> None:
        self._windows = windows
        self.gold = [
            find_gold_spans(asked[owner].texts[1], asked[owner].answers, offsets, allowed, ANSWER_TOKENS)
            for owner, offsets, allowed in zip(windows.owner, windows.offsets, windows.allowed, strict=True)
        ]
        """For each window the first and last tokens of its gold spans, shape (spans, 2)."""
        self._masses = SpanMasses.none_yet(len(asked))
        self._spans: list[dict[tuple[int, int], float]] = [{} for _ in asked]

    def read(self, batch: NDArray[np.int64], starts: torch.Tensor, ends: torch.Tensor, allowed: torch.Tensor) -> Part:
        """Returns the parts of rows from some windows' logits, each of shape (windows, tokens)."""
        best = top_spans(starts, ends, allowed, count=1, max_tokens=ANSWER_TOKENS)
        return span_masses(starts, ends, allowed, [self.gold[index] for index in batch]), best

    def add(self, batch: NDArray[np.int64], part: Part) -> None:
        """Adds the readings of some windows."""
        masses, best = part
        self._masses.add(self._windows.owner[batch], masses)
        collect_spans(self._spans, self._windows, batch, best)

    def rows(self) -> Rows:
        """Returns the rows, shape (questions, places of `SpanRow`); of equal spans the earlier, then the shorter."""
        places = [min(spans, key=lambda span: (-spans[span], span), default=(0, 0)) for spans in self._spans]
        found = np.array(places, dtype=np.float64).reshape(-1, 2)
        return np.column_stack([self._masses.losses(), found]).astype(np.float32)


def collect_spans(
    found: list[dict[tuple[int, int], float]], windows: Windows, batch: NDArray[np.int64], best: TopSpans
) -> None:
    """Adds the spans of a batch of windows, as characters of the paragraph; each span keeps its best window."""
    scores, starts, ends = (part.cpu().numpy() for part in (best.scores, best.starts, best.ends))
    for row, index in enumerate(batch):
        spans, shift = found[windows.owner[index]], windows.offsets[index]
        for score, start, end in zip(scores[row], starts[row], ends[row], strict=True):
            if np.isneginf(score):
                break
            key = (int(shift[start, 0]), int(shift[end, 1]))
            spans[key] = max(float(score), spans.get(key, -np.inf))
