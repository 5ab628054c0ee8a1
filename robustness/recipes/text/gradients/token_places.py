"""The places of a text where tokens may be exchanged, and their candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.testsets.example import Example, Span
from robustness.victims.heads.head import Head
from robustness.victims.language_model import SameVocabularyModel
from robustness.victims.vocabulary import Vocabulary, vocabulary_of


@final
@dataclass(frozen=True, slots=True)
class TokenPlaces:
    """Candidates of each content token; they always include the token itself."""

    tokens: NDArray[np.int64]
    """The text's own ids, shape (places,)."""
    spans: tuple[Span, ...]
    vocabulary: Vocabulary
    candidates: torch.Tensor
    """Ids, shape (places, candidates), int64."""
    mask: torch.Tensor
    """Shape (places, candidates), float32: 0 where a candidate may stand, minus infinity elsewhere."""
    is_own: torch.Tensor
    """Shape (places, candidates), bool."""
    is_free: torch.Tensor
    """Shape (places,), bool: whether it is not protected."""
    is_open: torch.Tensor
    """Shape (places,), bool: whether there is another candidate."""
    embeddings: torch.Tensor
    """Embeddings of the candidates, shape (places, candidates, dim)."""

    def similarity(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns how well soft texts (samples, places, dim) cover the text: BERTScore's recall, at most 1.

        The mean over the text's tokens of the largest cosine with a token of the soft text (arXiv 1904.09675). It
        uses word embeddings in place of a language model's hidden states.
        """
        own = self.vocabulary.embeddings[torch.from_numpy(self.tokens).to(vectors.device)]
        cosines = torch.einsum(
            "td,spd->stp", torch.nn.functional.normalize(own, dim=1), torch.nn.functional.normalize(vectors, dim=2)
        )
        return cosines.amax(dim=2).mean()


def find_places(victim: Head, example: Example, count: int | None) -> TokenPlaces:
    """Returns the content tokens with their candidates.

    The candidates of a token that is a word, or continues one, are the `count` nearest tokens of its kind by cosine.
    Other tokens and protected tokens stay.
    """
    vocabulary = vocabulary_of(victim)
    (located,) = victim.locate([example])
    tokens, spans = located.tokens, located.places
    table = vocabulary.embeddings
    words, continues = torch.from_numpy(vocabulary.words), torch.from_numpy(vocabulary.continues)
    kinds = torch.stack([words & ~continues, words & continues]).to(table.device)
    own = torch.from_numpy(tokens).to(table.device)
    is_free = torch.tensor([not example.protects(span) for span in spans], dtype=torch.bool, device=table.device)
    is_open = torch.from_numpy(vocabulary.words[tokens]).to(table.device) & is_free
    allowed = kinds[torch.from_numpy(vocabulary.continues[tokens]).long().to(table.device)] & is_open[:, None]
    rows = torch.arange(len(own), device=table.device)
    allowed[rows, own] = True
    unit = torch.nn.functional.normalize(table, dim=1)
    cosines = unit[own] @ unit.T
    cosines[rows, own] = 2.0  # above all others: always among the nearest
    nearest = cosines.masked_fill(~allowed, -torch.inf).topk(min(count or len(table), len(table)), dim=1)
    mask = torch.where(nearest.values.isfinite(), 0.0, -torch.inf)
    return TokenPlaces(
        tokens=tokens,
        spans=spans,
        vocabulary=vocabulary,
        candidates=nearest.indices,
        mask=mask,
        is_own=nearest.indices == own[:, None],
        is_free=is_free,
        is_open=mask.isfinite().sum(dim=1) > 1,
        embeddings=table[nearest.indices],
    )


def write_tokens(example: Example, places: TokenPlaces, tokens: NDArray[np.int64]) -> Example:
    """Returns the example with the characters of each differing token replaced; spaces stay."""
    texts = list(example.texts)
    for place in np.flatnonzero(tokens != places.tokens)[::-1].tolist():
        segment, start, end = places.spans[place]
        text = texts[segment]
        start += len(text[start:end]) - len(text[start:end].lstrip())
        texts[segment] = text[:start] + places.vocabulary.forms[int(tokens[place])] + text[end:]
    return example.with_texts(texts)


def soft_perplexity(soft: torch.Tensor, places: TokenPlaces, model: SameVocabularyModel) -> torch.Tensor:
    """Returns the soft texts' mean cross-entropy under the model, in nats a token, over places after the first.

    Args:
        soft: (samples, places, candidates), probabilities.
        places: the places.
        model: a causal language model of the same vocabulary.
    """
    inputs = torch.einsum("spk,pkd->spd", soft, model.embeddings[places.candidates])
    expected = model.log_probabilities(inputs)[:, :-1]
    later = places.candidates[None, 1:].expand(len(soft), -1, -1)
    entropies = -(soft[:, 1:] * expected.gather(2, later)).sum(dim=2)
    return entropies.mean() if entropies.numel() else soft.sum() * 0.0
