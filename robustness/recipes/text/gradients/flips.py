"""Flips: the substitutions of one text that are most promising by its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray

from robustness.recipes.text.edits import WordEdits
from robustness.testsets.example import Example, Span
from robustness.victims.heads.text_gradients import TextGradient
from robustness.victims.vocabulary import Vocabulary

TRIED_AT_A_TIME = 24
"""Token flips to decode and re-tokenise at a time."""
TRIED_AT_MOST = 4096
"""Most promising token flips to try of a text; if none of them survives, the text has none."""


class Flips(Protocol):
    """A source of candidates for a search."""

    def best(
        self, clean: Example, current: Example, gradient: TextGradient, count: int, rng: np.random.Generator
    ) -> list[Example]:
        """Returns up to `count` forms of `current` with one more substitution, the most promising first.

        Promise is the first-order estimate of the loss's growth, (e_new - e_old) . g (arXiv 1712.06751).
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class WordFlips:
    """Replaces unchanged words by the forms that a recipe's transformations give.

    The estimate for a word of several tokens uses the mean of their embeddings and the sum of their gradients. For
    words of one token it equals HotFlip's.
    """

    edits: WordEdits

    def best(
        self, clean: Example, current: Example, gradient: TextGradient, count: int, rng: np.random.Generator
    ) -> list[Example]:
        """See Flips; equal estimates are in the order of the text."""
        candidates: list[Example] = []
        estimates: list[NDArray[np.float32]] = []
        for index in self.edits.constraints.changeable(clean):
            held = gradient.tokens_of(current.spans[index])
            if current.words[index] != clean.words[index] or not held:
                continue
            forms = self.edits.candidates(clean, current, index, rng)
            pieces = [_pieces(gradient.vocabulary, form, index) for form in forms]
            known = [row for row, ids in enumerate(pieces) if ids]
            if known:
                candidates += [forms[row] for row in known]
                estimates.append(estimate(gradient, held, [pieces[row] for row in known]))
        if not candidates:
            return []
        order = np.argsort(-np.concatenate(estimates), kind="stable")
        return [candidates[i] for i in order[:count]]


def estimate(gradient: TextGradient, held: Sequence[int], pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Returns the first-order change of the loss, shape (words,), if each new word replaced the tokens `held`.

    Args:
        gradient: at the text.
        held: positions of the present word's tokens.
        pieces: the ids of each new word.
    """
    direction = torch.from_numpy(gradient.gradient[list(held)].sum(axis=0)).to(gradient.vocabulary.embeddings.device)
    means = gradient.vocabulary.mean_embeddings([gradient.tokens[list(held)].tolist(), *pieces])
    gains = (means[1:] - means[0]) @ direction
    return np.asarray(gains.cpu().numpy(), dtype=np.float32)


@final
@dataclass(frozen=True, slots=True)
class TokenFlips:
    """Replaces tokens by any token of the vocabulary that is one word, or continues one as the old token does.

    Proposes only flips that survive: the re-tokenised text must have the new token in the old one's place and no
    other change.
    """

    def best(
        self, clean: Example, current: Example, gradient: TextGradient, count: int, rng: np.random.Generator
    ) -> list[Example]:
        """See Flips; draws nothing."""
        del rng
        found: list[Example] = []
        flips = _ranked(current, gradient)
        for start in range(0, len(flips), TRIED_AT_A_TIME):
            tried = flips[start : start + TRIED_AT_A_TIME]
            found += [each for each in _survivors(current, gradient, tried) if each.texts != clean.texts]
            if len(found) >= count:
                break
        return found[:count]


def _ranked(current: Example, gradient: TextGradient) -> list[tuple[int, int]]:
    """Pairs of position and new token, the most promising first."""
    vocabulary = gradient.vocabulary
    words = vocabulary.words
    positions = [
        i
        for i, (token, place) in enumerate(zip(gradient.tokens, gradient.places, strict=True))
        if words[token] and place[1] < place[2] and not current.protects(place)
    ]
    if not positions:
        return []
    old = gradient.tokens[positions]
    slopes = vocabulary.slopes(gradient.gradient[positions])
    rows = torch.arange(len(old), device=slopes.device)
    gains = slopes - slopes[rows, torch.from_numpy(old).to(slopes.device)][:, None]
    allowed = words[None, :] & (vocabulary.continues[None, :] == vocabulary.continues[old][:, None])
    allowed[np.arange(len(old)), old] = False
    gains = gains.masked_fill(torch.from_numpy(~allowed).to(gains.device), -torch.inf).flatten()
    best = gains.topk(min(TRIED_AT_MOST, int(allowed.sum()))).indices.tolist()
    return [(positions[place // len(words)], place % len(words)) for place in best]


def _survivors(current: Example, gradient: TextGradient, flips: Sequence[tuple[int, int]]) -> list[Example]:
    """The texts of the flips that survive re-tokenising."""
    vocabulary = gradient.vocabulary
    written = [_write(current, gradient.places[i], vocabulary.forms[token]) for i, token in flips]
    survived = []
    for candidate, (i, token), located in zip(written, flips, vocabulary.locate(written), strict=True):
        meant = gradient.tokens.copy()
        meant[i] = token
        if np.array_equal(located.tokens, meant):
            survived.append(candidate)
    return survived


def _write(current: Example, place: Span, form: str) -> Example:
    """Replaces a token's characters by another's; a leading space stays."""
    segment, start, end = place
    text = current.texts[segment]
    start += len(text[start:end]) - len(text[start:end].lstrip())
    return current.with_texts(
        [*current.texts[:segment], text[:start] + form + text[end:], *current.texts[segment + 1 :]]
    )


def _pieces(vocabulary: Vocabulary, candidate: Example, index: int) -> tuple[int, ...]:
    segment, start, end = candidate.spans[index]
    text = candidate.texts[segment]
    return vocabulary.pieces(text[start:end], after_space=start > 0 and text[start - 1].isspace())
