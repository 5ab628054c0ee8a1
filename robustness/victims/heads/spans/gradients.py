"""A question answering model as a differentiable function of its texts' word embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import (
    EmbeddedBatch,
    Forward,
    group_by_length,
    is_open,
    median_token_norm,
)
from robustness.victims.heads.spans.gold import find_gold_spans
from robustness.victims.heads.spans.windows import ANSWER_TOKENS, Windows
from robustness.victims.lookup import look_up, replaced_lookup

if TYPE_CHECKING:
    from robustness.victims.heads.spans.answering import AnsweringVictim

RIGHT, WRONG = "right_spans", "wrong_spans"
"""Names of the masks (batch, tokens, span lengths) among a batch's inputs."""


def embed_questions(victim: AnsweringVictim, examples: Sequence[Example]) -> EmbeddedBatch:
    """Encodes examples as one padded batch; the two logits are those of the best right and best wrong span.

    A span's logit is s_a + t_b, its start and end logit. It is right if its text matches a gold answer exactly, by
    SQuAD's rules. So the margin max over right (s_a + t_b) - max over wrong (s_a + t_b) is above 0 exactly if the
    answer is right. The content is the attacked segments' tokens, without protected gold answers. Only the first
    window of a paragraph counts.

    Raises:
        CheckpointError: the model does not read its embeddings exactly once.
    """
    windows = victim.encode([example.texts for example in examples])
    chosen = _first_windows(windows, len(examples))
    rows = {name: [values[index] for index in chosen] for name, values in windows.inputs.items()}
    inputs = victim.inputs(rows)
    tokens = inputs["input_ids"].shape[1]
    spans = np.zeros((2, len(examples), tokens, min(ANSWER_TOKENS, tokens)), dtype=bool)
    content = np.zeros((len(examples), tokens), dtype=bool)
    for row, (example, index) in enumerate(zip(examples, chosen, strict=True)):
        right, wrong = judge_spans(example, windows, index)
        length, width = right.shape
        spans[0, row, :length, :width], spans[1, row, :length, :width] = right, wrong
        content[row, :length] = _content(example, windows, index)
    for name, mask in zip((RIGHT, WRONG), spans, strict=True):
        inputs[name] = torch.from_numpy(mask).to(victim.device)
    with torch.no_grad():
        embeddings = look_up(victim.model, inputs["input_ids"])
    return EmbeddedBatch(
        embeddings,
        torch.from_numpy(content).to(victim.device),
        torch.zeros(len(examples), dtype=torch.long, device=victim.device),
        median_token_norm(victim),
        inputs,
        _forward_of(victim),
        chance=0.0,
    )


def find_unfit_questions(victim: AnsweringVictim, examples: Sequence[Example]) -> dict[str, str]:
    """Returns the reasons, by id, of examples without a margin."""
    if not examples:
        return {}
    windows = victim.encode([example.texts for example in examples])
    counts = np.bincount(windows.owner, minlength=len(examples))
    unfit = {}
    for example, count, index in zip(examples, counts, _first_windows(windows, len(examples)), strict=True):
        if count > 1:
            unfit[example.id] = f"its paragraph is read in {count} windows that share tokens"
            continue
        right, wrong = judge_spans(example, windows, index)
        if not right.any() or not wrong.any():
            unfit[example.id] = f"no span of its tokens is a {'wrong' if right.any() else 'right'} answer"
    return unfit


def batch_questions(victim: AnsweringVictim, examples: Sequence[Example]) -> list[list[Example]]:
    """Groups examples by the length of their first windows."""
    if not examples:
        return []
    windows = victim.encode([example.texts for example in examples])
    rows = [windows.inputs["input_ids"][index] for index in _first_windows(windows, len(examples))]
    return group_by_length(examples, rows, victim.company, victim.device)


def judge_spans(example: Example, windows: Windows, index: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which spans of a window are right and which are wrong, both of shape (tokens, span lengths).

    Entry (a, k) is the span of the tokens a to a + k; both are false if it is no span of the paragraph.
    """
    allowed, offsets = windows.allowed[index], windows.offsets[index]
    tokens = len(allowed)
    width = min(ANSWER_TOKENS, tokens)
    right = np.zeros((tokens, width), dtype=bool)
    firsts, lasts = find_gold_spans(example.texts[1], example.answers, offsets, allowed, width).T
    right[firsts, lasts - firsts] = True
    ends = np.arange(tokens)[:, None] + np.arange(width)
    spans = allowed[:, None] & np.pad(allowed, (0, width))[ends]
    return right, spans & ~right


def _content(example: Example, windows: Windows, index: int) -> list[bool]:
    """The tokens of a window that may be perturbed; special tokens have a segment below 0."""
    places = zip(windows.segments[index].tolist(), windows.offsets[index].tolist(), strict=True)
    return [start < end and is_open(example, (segment, start, end)) for segment, (start, end) in places]


def _first_windows(windows: Windows, count: int) -> list[int]:
    return [int(index) for index in np.searchsorted(windows.owner, np.arange(count))]


def _forward_of(victim: AnsweringVictim) -> Forward:
    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        own = {name: values for name, values in inputs.items() if name not in (RIGHT, WRONG)}
        with replaced_lookup(victim.model, own, embeddings):
            output = victim.model(**own)
        victim.forwards += len(embeddings)
        width = embeddings.shape[1]
        # A prompt's virtual tokens come first and have their own logits.
        starts, ends = (logits[:, -width:].float() for logits in (output.start_logits, output.end_logits))
        lengths = inputs[RIGHT].shape[2]
        sums = starts[:, :, None] + torch.nn.functional.pad(ends, (0, lengths - 1)).unfold(1, lengths, 1)
        best = [sums.masked_fill(~inputs[name], -torch.inf).flatten(1).amax(dim=1) for name in (RIGHT, WRONG)]
        return torch.stack(best, dim=1)

    return forward
