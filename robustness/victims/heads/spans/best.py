"""The likeliest spans of a window, from the logits of starts and ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TopSpans:
    """The best spans of each window, best first; -inf for missing ones."""

    scores: torch.Tensor
    """Sum of start and end logit, shape (windows, count)."""
    starts: torch.Tensor
    """Index of the first token, shape (windows, count)."""
    ends: torch.Tensor
    """Index of the last token."""


def top_spans(
    starts: torch.Tensor, ends: torch.Tensor, allowed: torch.Tensor, *, count: int, max_tokens: int
) -> TopSpans:
    r"""Returns the spans (i, j) with the largest $$s_i + e_j, \quad i \le j < i + m,$$ both ends allowed.

    Source: the decoding of BERT's SQuAD models (arXiv 1810.04805, section 4.2).

    Args:
        starts: start logits s, shape (windows, tokens).
        ends: end logits e, shape (windows, tokens).
        allowed: tokens of the paragraph, bool, shape (windows, tokens).
        count: spans a window.
        max_tokens: m, the most tokens of a span.

    >>> import torch
    >>> s, e = torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([[5.0, 0.0, 2.0]])
    >>> best = top_spans(s, e, torch.ones(1, 3, dtype=torch.bool), count=1, max_tokens=2)
    >>> best.scores.item(), best.starts.item(), best.ends.item()  # 0..0: 0 + 5; 1..0 would end before it starts
    (5.0, 0, 0)
    """
    windows, tokens = starts.shape
    width = min(max_tokens, tokens)

    def behind(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(values, (0, width - 1)).unfold(1, width, 1)

    sums = starts.float()[:, :, None] + behind(ends.float())
    # Masks whole spans, because a nan logit would make spans that end in the padding the best.
    sums = sums.masked_fill(~(allowed[:, :, None] & behind(allowed)), -torch.inf)
    best = sums.reshape(windows, tokens * width).topk(min(count, tokens * width), dim=1)
    begins = best.indices // width
    return TopSpans(best.values, begins, begins + best.indices % width)
