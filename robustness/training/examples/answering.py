"""Questions as training rows: windows with the answer's tokens, and F1 on the development questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.answer_scores import score_answer
from robustness.testsets.example import Example
from robustness.training.examples.rows import EncodedRows, Reader, ScoredRows, TrainingRows
from robustness.victims.heads.spans.best import top_spans
from robustness.victims.heads.spans.windows import ANSWER_TOKENS, QUESTION_TOKENS, STRIDE_TOKENS, WINDOW_TOKENS

LABEL_NAMES = ("start_positions", "end_positions")
Window = dict[str, Any]
"""Token ids, masks and the positions of the answer's first and last token."""


def encode_questions(rows: TrainingRows, reader: Reader) -> EncodedRows:
    """Returns questions as windows; training windows hold the answer."""
    selecting, reporting = (
        ScoredRows(
            tuple(encode_windows(half, reader.tokenizer, reader.positions, answered_only=False)),
            f1_metric(half, reader.tokenizer, reader.positions),
        )
        for half in (rows.selecting, rows.reporting)
    )
    train = tuple(encode_windows(rows.train, reader.tokenizer, reader.positions, answered_only=True))
    return EncodedRows(reader.tokenizer, rows.task, train, selecting, reporting, LABEL_NAMES)


def encode_windows(examples: Sequence[Example], tokenizer: Any, limit: int, *, answered_only: bool) -> list[Window]:
    """Tokenises questions as the victim does, without padding, in windows of at most `limit` tokens.

    Positions are those of the first gold answer. A window without the whole answer gets -100, which the loss ignores.
    `answered_only` omits such windows, so that training sees no question without an answer.
    """
    tokenizer.padding_side = "right"  # positions count from the left
    encoded = _tokenise(examples, tokenizer, limit)
    owners = encoded.pop("overflow_to_sample_mapping")
    offsets = encoded.pop("offset_mapping")
    windows = []
    for index, owner in enumerate(owners):
        spans = np.array(offsets[index], dtype=np.int64)
        inside = np.array([part == 1 for part in encoded.sequence_ids(index)]) & (spans[:, 1] > spans[:, 0])
        positions = _positions(examples[owner], spans, inside)
        if positions is None and answered_only:
            continue
        window = {key: encoded[key][index] for key in encoded}
        windows.append(window | dict(zip(LABEL_NAMES, positions or (-100, -100), strict=True)))
    return windows


def f1_metric(examples: Sequence[Example], tokenizer: Any, limit: int) -> Callable[[Any], dict[str, float]]:
    """Returns the trainer's metric: the `score` is the mean F1 of the questions.

    The windows it is called on must be those of `encode_windows(examples, tokenizer, limit, answered_only=False)`.
    """
    encoded = _tokenise(examples, tokenizer, limit)
    owners, offsets = encoded["overflow_to_sample_mapping"], encoded["offset_mapping"]
    inside = [torch.tensor([[part == 1 for part in encoded.sequence_ids(i)]]) for i in range(len(owners))]

    def metric(evaluated: Any) -> dict[str, float]:
        starts, ends = (torch.from_numpy(np.asarray(logits)) for logits in evaluated.predictions[:2])
        best: dict[int, tuple[float, str]] = {}
        for index, owner in enumerate(owners):
            row = slice(index, index + 1), slice(inside[index].shape[1])
            top = top_spans(starts[row], ends[row], inside[index], count=1, max_tokens=ANSWER_TOKENS)
            score = float(top.scores[0, 0])
            if owner not in best or score > best[owner][0]:
                first, last = offsets[index][int(top.starts[0, 0])][0], offsets[index][int(top.ends[0, 0])][1]
                best[owner] = score, examples[owner].texts[1][first:last]
        f1 = [score_answer(best[owner][1], example.answers).f1 for owner, example in enumerate(examples)]
        return {"score": float(np.mean(f1))}

    return metric


def _tokenise(examples: Sequence[Example], tokenizer: Any, limit: int) -> Any:
    length = min(WINDOW_TOKENS, limit)
    longest = min(QUESTION_TOKENS, length // 3)
    return tokenizer(
        [_first_tokens(tokenizer, example.texts[0], longest) for example in examples],
        [example.texts[1] for example in examples],
        truncation="only_second",
        max_length=length,
        stride=min(STRIDE_TOKENS, length // 3),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=False,
    )


def _first_tokens(tokenizer: Any, question: str, limit: int) -> str:
    if len(question) <= limit:  # no token is shorter than a character
        return question
    encoded = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    return question if len(offsets) <= limit else question[: offsets[limit - 1][1]]


def _positions(example: Example, spans: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Tokens of the first answer, or None where the window does not hold all of it."""
    answer = example.answers[0]
    end = answer.start + len(answer.text)
    held = np.flatnonzero(inside & (spans[:, 0] < end) & (spans[:, 1] > answer.start))
    if not len(held) or spans[held[0], 0] > answer.start or spans[held[-1], 1] < end:
        return None
    return int(held[0]), int(held[-1])
