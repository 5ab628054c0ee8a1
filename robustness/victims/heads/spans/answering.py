"""A loaded checkpoint that answers questions with spans of a paragraph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.grading import Rows, SpanGrader, SpanRow
from robustness.testsets.example import Example, Texts, digest_texts
from robustness.victims.batches import TokenBatches, default_tokens
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head
from robustness.victims.heads.kernels import Kernels
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.spans.best import TopSpans, top_spans
from robustness.victims.heads.spans.gradients import batch_questions, embed_questions, find_unfit_questions
from robustness.victims.heads.spans.rows import SpanRows, collect_spans
from robustness.victims.heads.spans.text_gradients import locate_in_windows, question_gradients
from robustness.victims.heads.spans.windows import (
    ANSWER_TOKENS,
    QUESTION_TOKENS,
    STRIDE_TOKENS,
    WINDOW_TOKENS,
    Windows,
)
from robustness.victims.heads.text_gradients import Located, TextGradient
from robustness.victims.inputs import Company, accepted_inputs, longest_text, pad

T = TypeVar("T")

N_BEST = 20
ENCODE_TEXTS = 512
"""Texts tokenised, and sorted by window, at a time; bounds memory."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest answers to one question, best first."""

    answers: tuple[str, ...]
    scores: tuple[float, ...]
    """Sum of start and end logit."""

    @property
    def best(self) -> str:
        """The answer."""
        return self.answers[0]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax over the answers kept, shape (answers,)."""
        logits = np.array(self.scores, dtype=np.float64)
        shifted = np.exp(logits - logits.max())
        return np.asarray(shifted / shifted.sum())


@final
class AnsweringVictim:
    """An extractive question answering model with its tokenizer.

    Paragraphs longer than a window of 384 tokens are read in windows that share 128. The windows of many questions
    are sorted by length and batched by tokens. An answer is a span of at most 30 tokens of one window. Answers of
    all windows compete by the sum of their start and end logits. No answer is never an answer.

    Args:
        model: gives start and end logits.
        tokenizer: a fast one.
        segment_ids: whether the model gets segment ids.
        padded: whether windows of unequal length may share a batch.
        batch_tokens: tokens of a batch; None for the device's default.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        segment_ids: bool = True,
        padded: bool = True,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.grader = SpanGrader()
        """Grades its rows."""
        self.can = HeadKind.SPAN.traits.can
        """Its abilities."""
        self.padding_sides = ("right",)
        """Sides on which its texts may be padded, the usual one first."""
        tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        self.device: torch.device = next(model.parameters()).device
        self.max_tokens = min(WINDOW_TOKENS, longest_text(model, tokenizer))
        self.company = Company(padded)
        """Which windows may share a batch."""
        self.forwards = 0
        """Windows run through the model so far."""
        self.truncated: set[str] = set()
        """Digests of texts with a truncated question."""
        self.contradicted: set[str] = set()
        """Digests of texts that got another answer when asked about again."""
        self._takes_segment_ids = segment_ids
        self._accepted = accepted_inputs(model) - (frozenset() if segment_ids else {"token_type_ids"})
        self._question_tokens = min(QUESTION_TOKENS, self.max_tokens // 3)
        self._stride = min(STRIDE_TOKENS, self.max_tokens // 3)
        self._kernels = Kernels(model)
        self.batches = TokenBatches(batch_tokens or default_tokens(self.device))

    def compile(self) -> str | None:
        """Compiles faster kernels by torch.compile; returns the reason on failure, or None."""
        texts = [("a text", "a text")]
        before = self.forwards
        failure = self._kernels.compile(lambda rows: self.logits(texts * rows))
        self.forwards = before
        return failure

    def predict(self, texts: Sequence[Texts], *, n_best: int = N_BEST) -> list[Prediction]:
        """Returns the likeliest answers to each (question, paragraph), in their order."""
        return [prediction for chunk in self._chunks(texts) for prediction in self._predict_chunk(chunk, n_best)]

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the row of each question, see `SpanRow`: its loss and its likeliest answer's place, float32.

        The loss covers all spans of at most 30 tokens with a gold answer's text, in the current paragraph; see
        `SpanMasses`.
        """
        rows = np.empty((len(asked), len(SpanRow)), dtype=np.float32)
        for start in range(0, len(asked), ENCODE_TEXTS):
            chunk = asked[start : start + ENCODE_TEXTS]
            rows[start : start + len(chunk)] = self._rows_of_chunk(chunk)
        return rows

    def _rows_of_chunk(self, asked: Sequence[Example]) -> Rows:
        windows = self.encode([example.texts for example in asked])
        found = SpanRows(asked, windows)
        for batch, part in self._run(windows, found.read):
            found.add(batch, part)
        return found.rows()

    def read_as(self, other: Head) -> AnsweringVictim:
        """Returns a new head on this one's model: starts and ends always have the same order."""
        del other
        return AnsweringVictim(
            self.model, self.tokenizer, segment_ids=self._takes_segment_ids, padded=self.company.padded
        )

    def describe_scoring(self) -> list[str]:
        """Everything that rows depend on besides checkpoint and text: windows, segments, device, dtype, kernels."""
        windows = [self.max_tokens, self._stride, self._question_tokens, ANSWER_TOKENS, self._takes_segment_ids]
        return [*map(str, windows), *self._kernels.describe()]

    def find_fault(self) -> str | None:
        """Returns None: any such model answers."""
        return None

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """See `embed_questions`."""
        return embed_questions(self, asked)

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by the length of their first windows."""
        return batch_questions(self, asked)

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the tokens of the attacked segments, each once, also if several windows contain it."""
        return locate_in_windows(self, asked)

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradients of the questions' losses."""
        return question_gradients(self, asked)

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns the reasons, by id, of questions without a margin."""
        return find_unfit_questions(self, asked)

    def logits(self, texts: Sequence[Texts]) -> Rows:
        """Returns the largest start and end logit within the paragraph, shape (len(texts), 2), float32."""
        rows = np.full((len(texts), 2), -np.inf, dtype=np.float32)
        for number, chunk in enumerate(self._chunks(texts)):
            windows = self.encode(chunk)
            for batch, best in self._run(windows, _largest):
                # nan must stay nan.
                np.maximum.at(rows, number * ENCODE_TEXTS + windows.owner[batch], best.cpu().numpy())
        return rows

    def _chunks(self, texts: Sequence[Texts]) -> Iterator[Sequence[Texts]]:
        return (texts[start : start + ENCODE_TEXTS] for start in range(0, len(texts), ENCODE_TEXTS))

    def _predict_chunk(self, texts: Sequence[Texts], n_best: int) -> list[Prediction]:
        windows = self.encode(texts)
        found: list[dict[tuple[int, int], float]] = [{} for _ in texts]

        def read(_: NDArray[np.int64], *logits: torch.Tensor) -> TopSpans:
            return top_spans(*logits, count=n_best, max_tokens=ANSWER_TOKENS)

        for batch, best in self._run(windows, read):
            collect_spans(found, windows, batch, best)
        return [_prediction(text[1], spans, n_best) for text, spans in zip(texts, found, strict=True)]

    @torch.inference_mode()
    def _run(self, windows: Windows, read: Callable[..., T]) -> Iterator[tuple[NDArray[np.int64], T]]:
        """Yields indices of windows, longest first, with the results of `read`.

        `read` gets the indices, start logits, end logits and allowed tokens of a batch.
        """
        rows = windows.inputs["input_ids"]
        lengths = np.array([len(ids) for ids in rows])
        yield from self.batches.run(
            lengths, lambda batch: read(batch, *self._forward(windows, batch)), self.company.kinds(rows)
        )

    def _forward(self, windows: Windows, batch: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.window_logits(windows, batch, self.window_inputs(windows, batch))

    def window_inputs(self, windows: Windows, batch: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Returns the model's inputs for a batch of windows, padded, each of shape (batch, tokens)."""
        return self.inputs({key: [values[i] for i in batch] for key, values in windows.inputs.items()})

    def window_logits(
        self, windows: Windows, batch: NDArray[np.int64], inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Runs the model; returns start logits, end logits and the paragraph's tokens, shape (batch, tokens)."""
        output = self._kernels.run(**inputs)
        self.forwards += len(batch)
        width = inputs["input_ids"].shape[1]
        allowed = np.zeros((len(batch), width), dtype=bool)
        for row, index in enumerate(batch):
            allowed[row, : len(windows.allowed[index])] = windows.allowed[index]
        # A prompt's virtual tokens come first and have their own logits.
        starts, ends = (logits[:, -width:] for logits in (output.start_logits, output.end_logits))
        return starts, ends, torch.from_numpy(allowed).to(self.device)

    def inputs(self, rows: dict[str, list[list[int]]]) -> dict[str, torch.Tensor]:
        """Returns the model's inputs for some windows, padded on the right, each of shape (windows, tokens)."""
        padded = pad(rows, self.tokenizer, self._accepted, "right")
        return {name: torch.from_numpy(values).to(self.device) for name, values in padded.items()}

    def encode(self, texts: Sequence[Texts]) -> Windows:
        """Returns the windows of each (question, paragraph), in order."""
        questions = self._shorten([question for question, _ in texts], texts)
        encoded = self.tokenizer(
            questions,
            [context for _, context in texts],
            truncation="only_second",
            max_length=self.max_tokens,
            stride=self._stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
        )
        owner = np.array(encoded.pop("overflow_to_sample_mapping"), dtype=np.int64)
        offsets = [np.array(window, dtype=np.int64).reshape(-1, 2) for window in encoded.pop("offset_mapping")]
        segments = [
            np.array([-1 if part is None else part for part in encoded.sequence_ids(window)], dtype=np.int64)
            for window in range(len(owner))
        ]
        allowed = [
            (parts == 1) & (places[:, 1] > places[:, 0]) for parts, places in zip(segments, offsets, strict=True)
        ]
        kept = [key for key in encoded if key in self._accepted]
        return Windows({key: encoded[key] for key in kept}, owner, offsets, segments, allowed)

    def _shorten(self, questions: list[str], texts: Sequence[Texts]) -> list[str]:
        """Cuts questions that would leave no room for the paragraph; every token has at least one character."""
        for index, question in enumerate(questions):
            if len(question) > self._question_tokens:
                offsets = self.tokenizer(
                    question, add_special_tokens=False, return_offsets_mapping=True, verbose=False
                )["offset_mapping"]
                if len(offsets) > self._question_tokens:
                    questions[index] = question[: offsets[self._question_tokens - 1][1]]
                    self.truncated.add(digest_texts(texts[index]))
        return questions


def _largest(_: NDArray[np.int64], starts: torch.Tensor, ends: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """The largest start and end logit of each window, shape (windows, 2)."""
    masked = [logits.float().masked_fill(~allowed, -torch.inf).amax(dim=1) for logits in (starts, ends)]
    return torch.stack(masked, dim=1)


def _prediction(context: str, spans: dict[tuple[int, int], float], n_best: int) -> Prediction:
    """The best spans; among equals the earlier, then the shorter. A paragraph without a token has the answer ""."""
    ranked = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    if not ranked:
        return Prediction(("",), (0.0,))
    return Prediction(tuple(context[a:b] for (a, b), _ in ranked), tuple(score for _, score in ranked))
