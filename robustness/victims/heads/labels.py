"""A loaded checkpoint that answers with scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.tasks.grading import LabelGrader, Rows
from robustness.testsets.example import Example, Texts, digest_texts
from robustness.victims.batches import CPU_BATCH_TOKENS, CUDA_BATCH_TOKENS, TokenBatches, recover_memory
from robustness.victims.heads.embedded_batch import EmbeddedBatch
from robustness.victims.heads.head import Head
from robustness.victims.heads.kernels import Kernels
from robustness.victims.heads.kinds import HeadKind
from robustness.victims.heads.label_gradients import batch_texts, embed_texts, locate_texts
from robustness.victims.heads.text_gradients import Located, TextGradient, text_gradients
from robustness.victims.inputs import Company, accepted_inputs, longest_text, pad

Scores = NDArray[np.float32]
Encoded = dict[str, list[list[int]]]
"""By the model's input names; a list of tokens for each text."""

CUDA_MEMORY_SHARE = 0.5
"""Share of the memory free at the first text that one batch may use."""
PROBE_TOKENS = 2_048
"""Size of the batch that measures the memory per token."""
TRIAL_WORD = "a"
"""Repeated, it gives a text of any length, with the special tokens that the model needs."""
KEPT_ENCODINGS = 20_000
"""Number of texts whose tokens are kept until scoring."""
ENCODE_TEXTS = 4_096
"""Texts tokenised at a time; bounds memory, far above any batch."""


@final
class Victim:
    """A classifier with its tokenizer.

    Scores are logits in the task's label order. Texts are sorted by length and batched by tokens, so padding is
    minimal. On CUDA the size of a batch follows from the free memory, and is halved if memory still runs out.

    Args:
        model: gives logits.
        tokenizer: the model's own; texts are padded on its side.
        label_columns: the model's own index of each of the task's labels.
        labels: the labels' names; None for their numbers.
        padded: whether texts of unequal length may share a batch.
        batch_tokens: tokens of a batch; None for the device's default.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        label_columns: Sequence[int],
        *,
        labels: Sequence[str] | None = None,
        padded: bool = True,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.grader = LabelGrader(tuple(labels or map(str, range(len(label_columns)))))
        """Reads its rows."""
        self.can = HeadKind.LABELS.traits.can
        """What it may be asked."""
        self.padding_sides = ("right", "left")
        """Sides on which its texts may be padded, the usual one first."""
        # Batching by length needs padding apart from tokenising; the library's hint against it is silenced.
        tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        self.device: torch.device = next(model.parameters()).device
        self.max_tokens = longest_text(model, tokenizer)
        self.forwards = 0
        """Texts run through the model so far."""
        self.truncated: set[str] = set()
        """Digests of truncated texts, because a long run's texts would fill the memory."""
        self.contradicted: set[str] = set()
        """Digests of texts that got another label when asked about again."""
        self._columns = list(label_columns)
        # On the device, because an index list would be sent there in every pass and would block its queue.
        self._order = torch.tensor(self._columns, device=self.device)
        self.accepted = accepted_inputs(model)
        """Names of the model's inputs."""
        end = model.config.eos_token_id if getattr(model.config, "is_encoder_decoder", False) else None
        self.company = Company(padded, end)
        """Which texts may share a batch."""
        self._kernels = Kernels(model)
        tokens = batch_tokens or (None if self.device.type == "cuda" else CPU_BATCH_TOKENS)
        self._encoded: dict[Texts, dict[str, list[int]]] = {}
        """Tokens of texts that are encoded but not yet scored."""
        self.batches = TokenBatches(tokens, self._fitting_tokens)

    def compile(self) -> str | None:
        """Compiles faster kernels for scoring; returns the reason on failure, or None.

        Gradients use the uncompiled model.
        """
        before = self.forwards
        failure = self._kernels.compile(lambda rows: self._forward(self._encode([("a text",)] * rows)))
        self.forwards = before
        return failure

    def describe_scoring(self) -> list[str]:
        """What scores depend on besides the checkpoint: label order, longest text, device, dtype, kernels."""
        return [str(self._columns), str(self.max_tokens), *self._kernels.describe()]

    @property
    def label_columns(self) -> tuple[int, ...]:
        """The model's own index of each of the task's labels."""
        return tuple(self._columns)

    def rows(self, asked: Sequence[Example]) -> Rows:
        """Returns the logits of the examples' texts, shape (len(asked), labels), float32."""
        return self.scores([example.texts for example in asked])

    def scores(self, texts: Sequence[Texts]) -> Scores:
        """Returns logits, shape (len(texts), labels), float32, in the order of `texts`."""
        found = [np.empty((0, len(self._columns)), dtype=np.float32)]
        running: Callable[[], Scores] | None = None
        for start in range(0, len(texts), ENCODE_TEXTS):
            started = self._start(texts[start : start + ENCODE_TEXTS])
            if running is not None:
                found.append(running())
            running = started
        if running is not None:
            found.append(running())
        return np.concatenate(found)

    def logits(self, texts: Sequence[Texts]) -> Scores:
        """Returns the scores."""
        return self.scores(texts)

    def read_as(self, other: Head) -> Victim:
        """Returns a new head on this one's model with the other's order of labels."""
        assert isinstance(other, Victim), "checkpoints of one task have one kind of head"
        labels, padded = self.grader.labels, self.company.padded
        return Victim(self.model, self.tokenizer, other.label_columns, labels=labels, padded=padded)

    def find_fault(self) -> str | None:
        """Returns None: any such model answers."""
        return None

    def embed(self, asked: Sequence[Example]) -> EmbeddedBatch:
        """See `embed_texts`."""
        return embed_texts(self, asked)

    def gradient_batches(self, asked: Sequence[Example]) -> list[list[Example]]:
        """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
        return batch_texts(self, asked)

    def locate(self, asked: Sequence[Example]) -> list[Located]:
        """Returns the content tokens of each example."""
        return locate_texts(self, asked)

    def text_gradients(self, asked: Sequence[Example]) -> list[TextGradient]:
        """Returns the gradient at each example's text."""
        return text_gradients(self, asked)

    def find_unfit(self, asked: Sequence[Example]) -> dict[str, str]:
        """Returns nothing: with labels every text has a margin."""
        del asked
        return {}

    def start(self, asked: Sequence[Example]) -> Callable[[], Scores]:
        """Starts computing rows, and returns the function that waits for the logits.

        On CUDA this queues the work and returns at once: the caller can start the next texts, which are tokenised
        while the GPU works. On a CPU the work is finished when this returns.
        """
        return self._start([example.texts for example in asked])

    def _start(self, texts: Sequence[Texts]) -> Callable[[], Scores]:
        encoded = self._take_encoded(texts)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])

        def forward(batch: NDArray[np.int64]) -> torch.Tensor:
            return self._forward({key: [values[i] for i in batch] for key, values in encoded.items()})

        with torch.inference_mode():
            batches = list(self.batches.run(lengths, forward, self.company.kinds(encoded["input_ids"])))
        arrived = torch.cuda.current_stream(self.device).record_event() if self.device.type == "cuda" else None

        def collect() -> Scores:
            if arrived is not None:
                arrived.synchronize()
            scores = np.empty((len(texts), len(self._columns)), dtype=np.float32)
            for indices, logits in batches:
                scores[indices] = logits.numpy()
            return scores

        return collect

    def read(self, texts: Sequence[Texts]) -> list[bytes]:
        """Returns a digest of each text's tokens, 16 bytes: an uncased model reads "Fine" and "fine" alike."""
        if len(self._encoded) > KEPT_ENCODINGS:  # of texts never scored
            self._encoded.clear()
        rows = self._encode_each(texts)
        self._encoded |= zip(texts, rows, strict=True)
        arrays = [np.array(list(row.values()), dtype=np.int64) for row in rows]
        return [hashlib.blake2b(array.tobytes(), digest_size=16).digest() for array in arrays]

    def _encode_each(self, texts: Sequence[Texts]) -> list[dict[str, list[int]]]:
        columns = self._encode(texts) if texts else {}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _take_encoded(self, texts: Sequence[Texts]) -> Encoded:
        """Does not encode texts again that `read` has encoded."""
        known = {text: self._encoded.pop(text) for text in dict.fromkeys(texts) if text in self._encoded}
        if not known:
            return self._encode(texts)
        new = [text for text in texts if text not in known]
        known |= zip(new, self._encode_each(new), strict=True)
        return {name: [known[text][name] for text in texts] for name in known[texts[0]]}

    def _fitting_tokens(self) -> int:
        """The power of two of tokens that fits a share of the free memory, estimated from a trial batch.

        Time is not measured, because it would vary the size between runs, and with it the logits' last digits.
        """
        tokens = PROBE_TOKENS
        while True:
            recover_memory()
            free = torch.cuda.mem_get_info(self.device)[0]
            try:
                taken = self._memory_of(tokens)
            except torch.cuda.OutOfMemoryError:
                if tokens == 1:
                    raise
                tokens //= 2  # shorter texts may still fit
                continue
            fitting = max(1, int(free * CUDA_MEMORY_SHARE * tokens / taken))
            return min(CUDA_BATCH_TOKENS, 1 << (fitting.bit_length() - 1))

    def _memory_of(self, tokens: int) -> int:
        """Bytes of a forward pass over this many tokens in the longest texts, which need most memory."""
        length = max(min(self.max_tokens, tokens), self.tokenizer.num_special_tokens_to_add() + 1)
        text = (f"{TRIAL_WORD} " * length,)
        inputs = self.inputs(self._tokenize([text] * max(1, tokens // length), length))
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self._kernels.run(**inputs)
        return max(1, torch.cuda.max_memory_allocated(self.device) - before)

    def _encode(self, texts: Sequence[Texts]) -> Encoded:
        encoded = self._tokenize(texts, self.max_tokens)
        for text, ids in zip(texts, encoded["input_ids"], strict=True):
            if len(ids) == self.max_tokens and self._is_truncated(text):
                self.truncated.add(digest_texts(text))
        return encoded

    def _tokenize(self, texts: Sequence[Texts], longest: int) -> Encoded:
        segments = [list(column) for column in zip(*texts, strict=True)]
        encoded = self.tokenizer(
            *segments, truncation=True, max_length=longest, padding=False, return_attention_mask=False
        )
        return {key: encoded[key] for key in encoded if key in self.accepted}

    def _is_truncated(self, text: Texts) -> bool:
        segments = [[segment] for segment in text]  # lists, because a single empty second segment would be ignored
        return len(self.tokenizer(*segments, truncation=False, verbose=False)["input_ids"][0]) > self.max_tokens

    def _forward(self, batch: Encoded) -> torch.Tensor:
        """Logits, shape (batch, labels); on CUDA still being copied to the CPU."""
        logits: torch.Tensor = self._kernels.run(**self.inputs(batch)).logits
        self.forwards += len(logits)
        return self.in_label_order(logits).to("cpu", non_blocking=True)

    def in_label_order(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the model's logits in the task's label order, shape (batch, labels), float32."""
        return logits.index_select(1, self._order).float()

    def inputs(self, batch: Encoded) -> dict[str, torch.Tensor]:
        """Returns the model's inputs for some texts' tokens, padded, each of shape (batch, tokens)."""
        padded = pad(batch, self.tokenizer, self.accepted, self.tokenizer.padding_side)
        return {name: self._to_device(values) for name, values in padded.items()}

    def _to_device(self, values: NDArray[np.int64]) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
