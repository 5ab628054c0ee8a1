"""A victim's vocabulary: the embeddings and the characters of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Example
from robustness.victims.lookup import embedding_module, look_up

if TYPE_CHECKING:
    from robustness.victims.heads.head import Head
    from robustness.victims.heads.text_gradients import Located

_ANCHOR = "a"
"""Token before decoded words; a continuation joins it without a space."""

_vocabularies: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


@final
class Vocabulary:
    """Tokens by their ids; built once per victim, see `vocabulary_of`."""

    def __init__(self, victim: Head) -> None:
        self._tokenizer = victim.tokenizer
        self.embeddings = _embedding_table(victim)
        """Word embeddings on the victim's device, shape (tokens, dim), float32."""
        self.forms = _forms(victim, len(self.embeddings))
        """The characters of each token, without the space before it; empty for a token without characters."""
        self.continues = _continues(victim, self.forms)
        """Shape (tokens,), bool: joins the token before it without a space."""
        self.words = np.array([_is_word(form) for form in self.forms])
        """Shape (tokens,), bool: only letters, digits and inner marks, with at least one letter."""
        self._victim = ref(victim)  # weakly: the vocabulary is kept as long as its victim
        self._pieces = lru_cache(maxsize=1 << 16)(self._tokenize)

    def locate(self, examples: Sequence[Example]) -> list[Located]:
        """Returns the ids and places of each example's content tokens in the victim's encoding."""
        victim = self._victim()
        assert victim is not None, "who has texts located has a victim"
        return victim.locate(examples)

    def pieces(self, word: str, *, after_space: bool) -> tuple[int, ...]:
        """Returns the ids of a word's tokens; byte-level tokenizers encode a word after a space differently."""
        return self._pieces(word, after_space)

    def mean_embeddings(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Returns the mean embedding of each row of ids, shape (rows, dim); none may be empty."""
        device = self.embeddings.device
        flat = torch.tensor([token for row in rows for token in row], device=device)
        starts = torch.tensor(np.cumsum([0, *(len(row) for row in rows[:-1])]), device=device)
        return torch.nn.functional.embedding_bag(flat, self.embeddings, starts, mode="mean")

    def slopes(self, gradient: NDArray[np.float32]) -> torch.Tensor:
        """Returns each token's embedding times each gradient (places, dim): shape (places, tokens)."""
        return torch.from_numpy(gradient).to(self.embeddings.device) @ self.embeddings.T

    def _tokenize(self, word: str, after_space: bool) -> tuple[int, ...]:
        encode = self._tokenizer
        if not after_space:
            return tuple(encode(word, add_special_tokens=False)["input_ids"])
        # After another word, because tokenizers that add a space would add a second one to a bare space.
        before = encode(_ANCHOR, add_special_tokens=False)["input_ids"]
        both = encode(f"{_ANCHOR} {word}", add_special_tokens=False)["input_ids"]
        return tuple(both[len(before) :])


def vocabulary_of(victim: Head) -> Vocabulary:
    """Returns the victim's vocabulary, built on first use."""
    if victim not in _vocabularies:
        _vocabularies[victim] = Vocabulary(victim)
    return _vocabularies[victim]


def _is_word(form: str) -> bool:
    return any(c.isalpha() for c in form) and Example("", (form,), label=0).words == (form,)


def _embedding_table(victim: Head) -> torch.Tensor:
    module = embedding_module(victim.model)
    weight: torch.Tensor = module.weight
    if type(module) is torch.nn.Embedding and module.max_norm is None:
        return weight.detach().float()
    with torch.no_grad():  # tables that scale their output
        return look_up(victim.model, torch.arange(len(weight), device=victim.device))


def _forms(victim: Head, count: int) -> tuple[str, ...]:
    """The characters that each token adds to a text; none for special tokens and for partial bytes."""
    tokenizer = victim.tokenizer
    special = set(tokenizer.all_special_ids)
    backend = tokenizer.backend_tokenizer.decoder if tokenizer.is_fast else None
    names = tokenizer.convert_ids_to_tokens(list(range(min(count, len(tokenizer)))))
    forms = []
    for index, name in enumerate(names):
        if index in special or name is None:
            forms.append("")
            continue
        text = name.removeprefix("##") if backend is None else backend.decode([name])
        text = text.removeprefix("##").strip()
        forms.append("" if "\ufffd" in text else text)
    return (*forms, *([""] * (count - len(forms))))


def _continues(victim: Head, forms: Sequence[str]) -> NDArray[np.bool_]:
    """A word piece starts with ##; if tokens contain spaces, a token without one continues a word."""
    tokenizer = victim.tokenizer
    names = tokenizer.convert_ids_to_tokens(list(range(min(len(forms), len(tokenizer)))))
    names = [name or "" for name in names] + [""] * (len(forms) - len(names))
    if any(name.startswith("##") for name in names):
        return np.array([name.startswith("##") for name in names])
    marked = ("\u0120", "\u2581")  # byte-level BPE's and SentencePiece's space
    return np.array([not name.startswith(marked) for name in names])
