"""A masked language model: predicts words for a hole, or in place of the existing words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.errors import DataError, first_line
from robustness.recipes.text.transformations.words import is_one_word
from robustness.victims.files.pickles import without_pickles
from robustness.victims.files.reasons import loading_reason
from robustness.victims.files.tokenizers import read_tokenizer
from robustness.victims.inputs import max_tokens, name_outputs

CPU_BATCH_TOKENS = 512
"""As for victims: few enough that activations stay in the cache."""
CUDA_BATCH_TOKENS = 16_384
"""Each token's row over the vocabulary takes 200 kB."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in a text to fill with one word."""

    before: str
    after: str


@final
class MaskedLanguageModel:
    """A masked language model with its tokenizer, read from a folder at first use.

    An answer depends only on the texts of its call. Texts of one length share a batch without padding. If a text is
    too long for the model, it reads the part around the hole.

    Args:
        folder: holds config, safetensors weights and a fast tokenizer.
        device: where it runs.
        batch_tokens: tokens per forward pass; the default depends on the device.
    """

    def __init__(self, folder: Path, device: torch.device, *, batch_tokens: int | None = None) -> None:
        self._folder = folder
        self._device = device
        self._batch_tokens = batch_tokens or (CUDA_BATCH_TOKENS if device.type == "cuda" else CPU_BATCH_TOKENS)

    def fill(self, holes: Sequence[Hole], count: int, min_probability: float = 0.0) -> list[tuple[str, ...]]:
        """Returns at most `count` whole words for each hole, the most probable first.

        A whole word is a token that contains a letter and starts a word. If the hole directly follows a letter or
        sign, tokens that could start a word count. Probabilities are over the whole vocabulary.
        """
        windows = [self._window(hole) for hole in holes]
        found: list[tuple[str, ...]] = [()] * len(holes)
        for batch in self._batches([ids for ids, _ in windows]):
            logits = self._logits([windows[i][0] for i in batch])
            rows = logits[torch.arange(len(batch)), torch.tensor([windows[i][1] for i in batch])]
            glued = [not holes[i].before or not holes[i].before[-1].isspace() for i in batch]
            allowed = torch.stack([self._glued_words if each else self._words for each in glued])
            probabilities = torch.where(allowed, rows.softmax(dim=1), -1.0)
            top = probabilities.topk(min(count, probabilities.shape[1]), dim=1)
            for i, values, ids in zip(batch, top.values.tolist(), top.indices.tolist(), strict=True):
                kept = [id_ for value, id_ in zip(values, ids, strict=True) if value >= max(min_probability, 0.0)]
                found[i] = tuple(dict.fromkeys(self._texts[id_] for id_ in kept))
        return found

    def reread(self, text: str, spans: Sequence[tuple[int, int]], count: int) -> list[tuple[str, ...]]:
        """Returns the words that the model predicts at each span of characters, without masking (arXiv 2004.09984).

        A span of one token gives the whole words among its `count` likeliest tokens. A span of several tokens
        combines the `count` likeliest tokens of each. It gives those of the `count` likeliest combinations that join
        into one word.
        """
        encoded = self._tokenizer(text, add_special_tokens=False, verbose=False)
        ids: list[int] = encoded["input_ids"]
        size = self._room
        chunks = [ids[start : start + size] for start in range(0, len(ids), size)]
        rows = [self._logits([[*self._prefix, *chunk, *self._suffix]])[0].log_softmax(dim=1) for chunk in chunks]
        found: list[tuple[str, ...]] = []
        for start, end in spans:
            places = sorted({place for c in range(start, end) if (place := encoded.char_to_token(c)) is not None})
            if not places or places[0] // size != places[-1] // size:  # truncated in the middle of the span
                found.append(())
                continue
            row = rows[places[0] // size]
            own = row[[len(self._prefix) + place % size for place in places]]
            glued = start == 0 or not text[start - 1].isspace()
            found.append(self._combine(own, count, glued=glued))
        return found

    @property
    def is_uncased(self) -> bool:
        """Whether it is uncased."""
        return bool(self._tokenizer.tokenize("A") == self._tokenizer.tokenize("a"))

    def _combine(self, rows: torch.Tensor, count: int, *, glued: bool) -> tuple[str, ...]:
        top = rows.topk(min(count, rows.shape[1]), dim=1)
        values, ids = top.values.double().cpu().numpy(), top.indices.cpu().numpy()
        if len(ids) == 1:
            words = self._glued_words if glued else self._words
            return tuple(dict.fromkeys(self._texts[int(i)] for i in ids[0] if words[int(i)]))
        joined = (self._join(combination) for combination in likeliest_combinations(values, ids, count))
        return tuple(dict.fromkeys(word for word in joined if _is_word(word)))

    def _join(self, ids: Sequence[int]) -> str:
        tokens = self._tokenizer.convert_ids_to_tokens(list(ids))
        return "" if set(ids) & self._special else str(self._tokenizer.convert_tokens_to_string(tokens)).strip()

    def _window(self, hole: Hole) -> tuple[list[int], int]:
        """Returns token ids, at most the model's maximum, and the hole's place among them."""
        text = hole.before + self._tokenizer.mask_token + hole.after
        encoded = self._tokenizer(text, add_special_tokens=False, verbose=False)
        ids: list[int] = encoded["input_ids"]
        place = encoded.char_to_token(len(hole.before))
        assert place is not None, "the mask token is never dropped"
        start = max(0, min(place - self._room // 2, len(ids) - self._room))
        return [*self._prefix, *ids[start : start + self._room], *self._suffix], len(self._prefix) + place - start

    def _batches(self, texts: Sequence[list[int]]) -> Iterator[list[int]]:
        by_length: dict[int, list[int]] = defaultdict(list)
        for i, ids in enumerate(texts):
            by_length[len(ids)].append(i)
        for length, indices in sorted(by_length.items()):
            size = max(1, self._batch_tokens // length)
            for start in range(0, len(indices), size):
                yield indices[start : start + size]

    @torch.inference_mode()
    def _logits(self, texts: Sequence[list[int]]) -> torch.Tensor:
        """Logits, shape (texts, tokens, vocabulary), of texts of one length."""
        ids = torch.tensor(texts, device=self._device)
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits[..., : len(self._texts)].float().cpu()

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForMaskedLM

        try:
            with without_pickles():
                model = AutoModelForMaskedLM.from_pretrained(
                    self._folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
                )
        except Exception as error:  # transformers and safetensors raise errors of many classes
            reason = loading_reason(self._folder, error)
            raise DataError(f"masked language model {self._folder}: cannot be loaded: {reason}") from error
        name_outputs(model)
        return model.to(self._device).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            tokenizer = read_tokenizer(self._folder)
        except Exception as error:  # of many classes, as above
            reason = first_line(error)
            raise DataError(f"masked language model {self._folder}: no tokenizer: {reason}") from error
        if tokenizer.mask_token_id is None or not tokenizer.is_fast:
            raise DataError(
                f"masked language model {self._folder}: expected a fast tokenizer with a mask token; "
                "save one beside the model with save_pretrained"
            )
        return tokenizer

    @cached_property
    def _room(self) -> int:
        """Maximum of a text's tokens, without special tokens."""
        return max_tokens(self._model, self._tokenizer) - len(self._prefix) - len(self._suffix)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self._tokenizer.all_special_ids)

    @property
    def _prefix(self) -> list[int]:
        return self._frame[0]

    @property
    def _suffix(self) -> list[int]:
        return self._frame[1]

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        bare = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self._tokenizer("a")["input_ids"]
        start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[:start], whole[start + len(bare) :]

    @cached_property
    def _tokens(self) -> list[str]:
        ids = range(len(self._tokenizer))
        return [token or "" for token in self._tokenizer.convert_ids_to_tokens(ids)]  # None for unused ids

    @cached_property
    def _texts(self) -> list[str]:
        """The characters of each token, without marks for the start or continuation of words."""
        texts = []
        for token in self._tokens:
            text = str(self._tokenizer.convert_tokens_to_string([token])).strip()
            texts.append(text.removeprefix("##") if self._marks_inner_pieces else text)
        return texts

    @cached_property
    def _marks_inner_pieces(self) -> bool:
        return not any(token.startswith(("\u0120", "\u2581")) for token in self._tokens)

    @cached_property
    def _words(self) -> torch.Tensor:
        """Which tokens are whole words after a space, shape (vocabulary,)."""
        starts = [
            not token.startswith("##") if self._marks_inner_pieces else token.startswith(("\u0120", "\u2581"))
            for token in self._tokens
        ]
        return torch.tensor(
            [start and i not in self._special and _is_word(self._texts[i]) for i, start in enumerate(starts)]
        )

    @cached_property
    def _glued_words(self) -> torch.Tensor:
        """Which tokens are whole words without a space before them: those also in the vocabulary with the mark."""
        if self._marks_inner_pieces:
            return self._words
        known = {self._texts[i] for i in self._words.nonzero().flatten().tolist()}
        return torch.tensor(
            [
                not token.startswith(("\u0120", "\u2581")) and i not in self._special and self._texts[i] in known
                for i, token in enumerate(self._tokens)
            ]
        )


@cache
def load_masked_lm(folder: Path, device: torch.device) -> MaskedLanguageModel:
    """Returns the model of a folder; parts that name the same folder share it."""
    return MaskedLanguageModel(folder, device)


def likeliest_combinations(values: NDArray[np.float64], ids: NDArray[np.int64], count: int) -> list[tuple[int, ...]]:
    """Returns the `count` combinations (one id per position) with the largest sums of values, largest first.

    Exact without listing all combinations: a best combination extends one of the best for the positions before.

    Args:
        values: shape (positions, choices).
        ids: of the choices, shape (positions, choices).
        count: how many.

    >>> likeliest_combinations(np.array([[0.0, -1.0], [0.0, -3.0]]), np.array([[1, 2], [3, 4]]), 3)
    [(1, 3), (2, 3), (1, 4)]
    """
    sums = np.zeros(1)
    rows: list[tuple[int, ...]] = [()]
    for value, choice in zip(values, ids, strict=True):
        total = sums[:, None] + value[None, :]
        best = np.argsort(-total, axis=None, kind="stable")[:count]
        rows = [(*rows[place // len(value)], int(choice[place % len(value)])) for place in best.tolist()]
        sums = total.ravel()[best]
    return rows


def _is_word(text: str) -> bool:
    return any(c.isalpha() for c in text) and is_one_word(text, whole=True)
