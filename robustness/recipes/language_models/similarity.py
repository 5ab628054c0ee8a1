"""Sentence similarity: compares meanings by a sentence encoder."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from robustness.errors import DataError, first_line
from robustness.testsets.example import Example
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.reasons import loading_reason
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.inputs import accepted_inputs, max_tokens, name_outputs

Vectors = NDArray[np.float32]
"""Shape (texts, dim), each of length 1."""

CPU_BATCH_TOKENS = 512
CUDA_BATCH_TOKENS = 65_536
REMEMBERED = 4_096
"""Number of calls whose results are cached; both arms of a pair begin with the same ones."""


@final
class SentenceEncoder:
    """A sentence-transformers model with mean pooling, read from its folder at first use (arXiv 1908.10084).

    Args:
        folder: holds config, safetensors weights, tokenizer and the files of sentence-transformers.
        device: where it runs.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder = folder
        self._device = device
        self._batch_tokens = CUDA_BATCH_TOKENS if device.type == "cuda" else CPU_BATCH_TOKENS
        pooling = _read(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
        modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value is True]
        if modes != ["pooling_mode_mean_tokens"]:
            raise DataError(f"sentence encoder {folder}: expected mean pooling, found {modes}; use another encoder")

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns the mean of the last layer's tokens, of length 1, in the order of `texts`."""
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens, verbose=False)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        vectors = np.empty((len(texts), self._model.config.hidden_size), dtype=np.float32)
        order = np.argsort(-lengths, kind="stable")
        taken = accepted_inputs(self._model)
        start = 0
        while start < len(order):
            batch = order[start : start + max(1, self._batch_tokens // int(lengths[order[start]]))]
            vectors[batch] = self._forward({key: [encoded[key][i] for i in batch] for key in encoded.keys() & taken})
            start += len(batch)
        return vectors

    @torch.inference_mode()
    def _forward(self, batch: dict[str, list[list[int]]]) -> Vectors:
        inputs = self._tokenizer.pad(batch, padding=True, return_tensors="pt").to(self._device)
        states: torch.Tensor = self._model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(2)
        means = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return np.asarray(torch.nn.functional.normalize(means, dim=1).cpu().numpy())

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        try:
            with without_pickles():
                model = AutoModel.from_pretrained(
                    self._folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
                )
        except Exception as error:  # transformers and safetensors each raise kinds of their own
            reason = loading_reason(self._folder, error)
            raise DataError(f"sentence encoder {self._folder}: cannot be loaded: {reason}") from error
        name_outputs(model)
        return model.to(self._device).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            tokenizer = read_tokenizer(self._folder)
        except Exception as error:  # of many classes, as above
            raise DataError(f"sentence encoder {self._folder}: no tokenizer: {first_line(error)}") from error
        # Batching by length needs padding apart from tokenising; the library's hint against it is silenced.
        tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
        return tokenizer

    @cached_property
    def _max_tokens(self) -> int:
        longest = _read(self._folder / "sentence_bert_config.json", {}).get("max_seq_length")
        return int(longest or max_tokens(self._model, self._tokenizer))


@final
class SentenceSimilarity:
    """A sentence encoder must find a candidate similar to the clean text (arXiv 1907.11932).

    Cosine similarity, or angular: 1 - arccos(cosine) / pi.

    Args:
        model: texts to vectors of length 1; given in a recipe file by folder or hub id.
        threshold: the lowest similarity allowed.
        metric: see above.
        window: words around the changed one that are compared; None: the whole text.
        skip_shorter: whether every candidate of a text with fewer words than the window is allowed.
    """

    def __init__(
        self,
        model: SentenceEncoder,
        threshold: Annotated[float, Field(ge=-1, le=1)],
        metric: Literal["cosine", "angular"],
        window: PositiveInt | None = None,
        *,
        skip_shorter: bool = False,
    ) -> None:
        self._encoder = model
        self._threshold = threshold
        self._metric = metric
        self._window = window
        self._skip_shorter = skip_shorter
        self._clean_vector = lru_cache(REMEMBERED)(lambda text: model.encode([text])[0])
        # Caches whole calls: a vector's last bits depend on the batch, and cached values must not.
        # Keys are digests: the texts of so many calls would fill the memory.
        self._cosines: OrderedDict[bytes, NDArray[np.float64]] = OrderedDict()

    def near(self, clean: Example, candidates: Sequence[Example], index: int) -> list[Example]:
        """Returns the candidates similar enough, in order; encodes the clean text once.

        Args:
            clean: the clean text.
            candidates: forms of it, with the same word indices.
            index: of the word changed last, the centre of the window.
        """
        if not candidates or (self._skip_shorter and self._window and len(clean.words) < self._window):
            return list(candidates)
        texts = [self._excerpt(candidate, index) for candidate in candidates]
        values = self.similarities(self._excerpt(clean, index), texts)
        return [each for each, value in zip(candidates, values, strict=True) if value >= self._threshold]

    def similarities(self, clean: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Returns the similarity of each text to the clean one, shape (texts,)."""
        key = hashlib.blake2b(json.dumps([clean, *texts]).encode(), digest_size=16).digest()
        cosines = self._cosines.pop(key) if key in self._cosines else self._compare(clean, texts)
        self._cosines[key] = cosines  # keeps the most recent calls
        if len(self._cosines) > REMEMBERED:
            self._cosines.popitem(last=False)
        if self._metric == "cosine":
            return cosines
        return np.asarray(1 - np.arccos(np.clip(cosines, -1, 1)) / np.pi)

    def _compare(self, clean: str, texts: Sequence[str]) -> NDArray[np.float64]:
        distinct = list(dict.fromkeys(texts))
        vectors = dict(zip(distinct, self._encoder.encode(distinct), strict=True))
        return np.asarray(np.array([vectors[text] for text in texts], dtype=np.float64) @ self._clean_vector(clean))

    def _excerpt(self, example: Example, index: int) -> str:
        """The text of the window, one line per segment; without window the whole text."""
        if self._window is None or not example.spans:
            return "\n".join(example.texts)
        first = min(max(0, index - self._window // 2), max(0, len(example.spans) - self._window))
        inside = example.spans[first : first + self._window]
        lines = []
        for segment in dict.fromkeys(segment for segment, _, _ in inside):
            places = [(start, end) for s, start, end in inside if s == segment]
            lines.append(example.texts[segment][places[0][0] : places[-1][1]])
        return "\n".join(lines)


@cache
def load_sentence_encoder(folder: Path, device: torch.device) -> SentenceEncoder:
    """Returns the encoder of a folder; recipes that name the same folder share it."""
    return SentenceEncoder(folder, device)


def _read(path: Path, default: dict[str, Any]) -> dict[str, Any]:
    if not path.is_file():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from None
    return content if isinstance(content, dict) else default
