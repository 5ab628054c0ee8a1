"""The gradient of a question's loss at its text, over all windows of the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Example, Span
from robustness.victims.heads.embedded_batch import group_by_length
from robustness.victims.heads.spans.rows import SpanRows
from robustness.victims.heads.spans.windows import Windows
from robustness.victims.heads.text_gradients import Located, TextGradient, differentiate_batches, gradient_at
from robustness.victims.inputs import Company
from robustness.victims.lookup import look_up, replaced_lookup
from robustness.victims.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from robustness.victims.heads.spans.answering import AnsweringVictim


def question_gradients(victim: AnsweringVictim, examples: Sequence[Example]) -> list[TextGradient]:
    """Returns the gradient of each question's loss at its text; the loss does not saturate for a right answer.

    A token in several windows has the sum of its gradients.
    """
    if not examples:
        return []
    windows = victim.encode([example.texts for example in examples])
    rows: list[list[int]] = [[] for _ in examples]
    for owner, ids in zip(windows.owner, windows.inputs["input_ids"], strict=True):
        rows[owner] += ids
    batches = group_by_length(examples, rows, Company(), victim.device)
    return differentiate_batches(victim, examples, batches, partial(_differentiate, victim))


def locate_in_windows(victim: AnsweringVictim, examples: Sequence[Example]) -> list[Located]:
    """Returns the tokens of the attacked segments, in reading order, each once."""
    if not examples:
        return []
    windows = victim.encode([example.texts for example in examples])
    return [
        _locate(windows, example, np.flatnonzero(windows.owner == number))[0]
        for number, example in enumerate(examples)
    ]


def _windows_of(windows: Windows, count: int) -> list[NDArray[np.int64]]:
    """The windows of each text."""
    return [np.flatnonzero(windows.owner == number) for number in range(count)]


def _locate(
    windows: Windows, example: Example, own: NDArray[np.int64]
) -> tuple[Located, list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """A text's content tokens and, for each window, the places of its content tokens."""
    numbers: dict[tuple[Span, int, int], int] = {}
    found = []
    for window in own:
        segments, offsets = windows.segments[window], windows.offsets[window]
        places = np.flatnonzero(np.isin(segments, example.attacked) & (offsets[:, 1] > offsets[:, 0]))
        seen: Counter[tuple[Span, int]] = Counter()
        which = []
        for place in places.tolist():
            token = windows.inputs["input_ids"][window][place]
            span = (int(segments[place]), int(offsets[place, 0]), int(offsets[place, 1]))
            seen[span, token] += 1  # the bytes of one character share its place and may be equal
            which.append(numbers.setdefault((span, token, seen[span, token]), len(numbers)))
        found.append((places, np.array(which, dtype=np.int64)))
    tokens = np.array([token for _, token, _ in numbers], dtype=np.int64)
    return Located(tokens, tuple(span for span, _, _ in numbers)), found


def _differentiate(victim: AnsweringVictim, examples: Sequence[Example]) -> list[TextGradient]:
    windows = victim.encode([example.texts for example in examples])
    read = SpanRows(examples, windows)
    points: list[torch.Tensor] = []
    pairs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    rows: dict[int, tuple[int, int]] = {}
    kinds = victim.company.kinds(windows.inputs["input_ids"])
    for kind in np.unique(kinds):
        batch = np.flatnonzero(kinds == kind)
        inputs = victim.window_inputs(windows, batch)
        points.append(look_up(victim.model, inputs["input_ids"]).detach().requires_grad_())
        with torch.enable_grad(), replaced_lookup(victim.model, inputs, points[-1]):
            starts, ends, allowed = victim.window_logits(windows, batch, inputs)
        read.add(batch, read.read(batch, starts.detach(), ends.detach(), allowed))
        for row, window in enumerate(batch.tolist()):
            pairs[window] = starts[row].double(), ends[row].double()
            rows[window] = len(points) - 1, row
    owned = _windows_of(windows, len(examples))
    with torch.enable_grad():
        losses = [_loss(windows, read, own, pairs) for own in owned]
        slopes = torch.autograd.grad(torch.stack(losses).sum(), points)
    vocabulary = vocabulary_of(victim)
    found = []
    for row, example, own in zip(read.rows(), examples, owned, strict=True):
        located, parts = _locate(windows, example, own)
        total = np.zeros((len(located.tokens), points[0].shape[2]), dtype=np.float32)
        for window, (places, which) in zip(own.tolist(), parts, strict=True):
            group, place = rows[window]
            total[which] += slopes[group][place].cpu().numpy()[places]
        found.append(gradient_at(victim.grader, example, row, located, total, vocabulary))
    return found


def _loss(
    windows: Windows,
    read: SpanRows,
    own: NDArray[np.int64],
    pairs: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """The loss of one question, see `SpanMasses`; its slope is 0 without any gold span."""
    starts, ends, gold = [], [], []
    for window in own.tolist():
        s, e = pairs[window]
        allowed = torch.from_numpy(np.flatnonzero(windows.allowed[window])).to(s.device)
        firsts, lasts = torch.from_numpy(read.gold[window].T).to(s.device)
        starts.append(s[allowed])
        ends.append(e[allowed])
        gold.append(s[firsts] + e[lasts])
    if not any(map(len, gold)):
        return torch.cat(starts).sum() * 0
    return torch.cat(starts).logsumexp(0) + torch.cat(ends).logsumexp(0) - torch.cat(gold).logsumexp(0)
