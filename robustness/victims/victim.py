"""A loaded checkpoint that answers with scores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Texts

logger = logging.getLogger(__name__)

Scores = NDArray[np.float32]

CPU_BATCH_TOKENS = 512
"""Measured on MiniLM: activations that stay in cache beat larger batches, by a third against 4,096 tokens."""
CUDA_BATCH_TOKENS = 65_536
ENCODE_TEXTS = 4_096
"""Texts that are tokenised at a time; bounds memory, far above any batch."""


@final
class Victim:
    """A classifier with its tokenizer.

    Scores are logits in the task's label order. Texts are sorted by length and batched by tokens, so nothing
    is padded past the longest text beside it. When CUDA runs out of memory the batch is halved.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        label_columns: Sequence[int],
        *,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        # Padding apart from tokenising is what batching by length needs; the hint against it is silenced.
        tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        self.device: torch.device = next(model.parameters()).device
        prompts = getattr(model, "active_peft_config", None)
        self.max_tokens = max_tokens(model.config, tokenizer, getattr(prompts, "num_virtual_tokens", 0))
        self.forwards = 0
        """Texts run through the model so far."""
        self.truncated: set[Texts] = set()
        """Texts longer than the model takes."""
        self._columns = list(label_columns)
        self._batch_tokens = batch_tokens or (CUDA_BATCH_TOKENS if self.device.type == "cuda" else CPU_BATCH_TOKENS)

    @property
    def label_count(self) -> int:
        """Labels of the head."""
        return len(self._columns)

    def scores(self, texts: Sequence[Texts]) -> Scores:
        """Returns logits, shape (len(texts), labels), float32, in the order of `texts`."""
        scores = np.empty((len(texts), len(self._columns)), dtype=np.float32)
        for start in range(0, len(texts), ENCODE_TEXTS):
            chunk = texts[start : start + ENCODE_TEXTS]
            for indices, logits in self._score_chunk(chunk):
                scores[start + indices] = logits
        return scores

    @torch.inference_mode()
    def _score_chunk(self, texts: Sequence[Texts]) -> Iterator[tuple[NDArray[np.int64], Scores]]:
        encoded = self._encode(texts)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        order = np.argsort(-lengths, kind="stable")  # longest first: the largest batch comes early
        start = 0
        while start < len(order):
            longest = max(1, int(lengths[order[start]]))  # an empty text may have no token at all
            size = max(1, self._batch_tokens // longest)
            batch = order[start : start + size]
            try:
                logits = self._forward({key: [values[i] for i in batch] for key, values in encoded.items()})
            except torch.cuda.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                torch.cuda.empty_cache()
                self._batch_tokens = len(batch) // 2 * longest
                logger.warning("out of memory: batches are now of %d tokens", self._batch_tokens)
                continue
            yield batch, logits
            start += len(batch)

    def _encode(self, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        segments = [list(column) for column in zip(*texts, strict=True)]
        encoded = self.tokenizer(*segments, truncation=True, max_length=self.max_tokens, padding=False)
        for text, ids in zip(texts, encoded["input_ids"], strict=True):
            if len(ids) == self.max_tokens and self._is_truncated(text):
                self.truncated.add(text)
        return {key: encoded[key] for key in encoded}

    def _is_truncated(self, text: Texts) -> bool:
        segments = [[segment] for segment in text]  # lists: alone, an empty second segment would be none at all
        return len(self.tokenizer(*segments, truncation=False, verbose=False)["input_ids"][0]) > self.max_tokens

    def _forward(self, batch: dict[str, list[list[int]]]) -> Scores:
        inputs = self.tokenizer.pad(batch, padding=True, return_tensors="pt").to(self.device)
        logits: torch.Tensor = self.model(**inputs).logits
        self.forwards += len(logits)
        return logits[:, self._columns].float().cpu().numpy()


def max_tokens(config: Any, tokenizer: Any, virtual_tokens: int = 0) -> int:
    """The most tokens a text may have: the position table and the tokenizer's own limit, whichever is less.

    Args:
        config: the model's configuration.
        tokenizer: the model's tokenizer.
        virtual_tokens: learnt prompts or prefixes, which take positions away from the text.
    """
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert"}:
        positions -= config.pad_token_id + 1  # RoBERTa counts positions from the padding index on
    return min(int(positions) - virtual_tokens, int(min(tokenizer.model_max_length, 1_000_000)))
