"""The target of an example's sequence margin: its own response if right, otherwise the gold text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from robustness.tasks.grading import Grade
from robustness.testsets.example import Example, Span
from robustness.victims.generation.decoding import Decoded, DecodingLimits, decode

if TYPE_CHECKING:
    from robustness.victims.heads.texts import TextVictim

EXACT = (torch.float32, torch.float64)
"""In lower precisions rounding depends on the batch and may change the likeliest token."""
REMEMBERED = 4_096
"""Number of prompts whose responses are kept."""

_responses: WeakKeyDictionary[Any, dict[tuple[int, ...], Decoded]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Target:
    """A prompt, and the target's tokens after it."""

    prompt: tuple[int, ...]
    places: tuple[Span | None, ...]
    """The place in the text of each token of the prompt; None for template and special tokens."""
    tokens: tuple[int, ...]
    """With the end token."""
    response: Decoded
    """The model's own response; its tokens are the target if it is right."""
    is_right: bool

    @property
    def row(self) -> tuple[int, ...]:
        """The model's input; its last output predicts the last token of the target."""
        return self.prompt + self.tokens[:-1]


def find_targets(victim: TextVictim, examples: Sequence[Example]) -> list[Target]:
    """Returns each example's target, in their order.

    For a right response the margin is above 0 exactly if greedy decoding gives it again. For a gold text that is not
    decoded it is below 0. A gold text counts up to the maximum length of a response.
    """
    most = victim.grader.answer.max_new_tokens
    found = []
    for example, response in zip(examples, own_responses(victim, examples), strict=True):
        prompt, places = victim.encode_segments(example.texts)
        is_right = grade_response(victim, response, example).correct
        tokens = response.tokens if is_right else victim.target(example)[:most]
        found.append(Target(prompt, places, tokens, response, is_right))
    return found


def own_responses(victim: TextVictim, examples: Sequence[Example]) -> list[Decoded]:
    """Returns the greedy response to each example's text; each prompt is decoded once while it is cached."""
    known = _responses.setdefault(victim, {})
    prompts = [victim.encode(example.texts) for example in examples]
    new = list(dict.fromkeys(prompt for prompt in prompts if prompt not in known))
    own = {prompt: known[prompt] for prompt in prompts if prompt in known}
    own |= zip(new, decode(victim.causal, new, limits_of(victim)), strict=True)
    known |= own
    for prompt in list(islice(known, max(0, len(known) - REMEMBERED))):
        del known[prompt]
    return [own[prompt] for prompt in prompts]


def limits_of(victim: TextVictim) -> DecodingLimits:
    """Returns where the victim's responses end."""
    return DecodingLimits(victim.grader.answer.max_new_tokens, victim.grader.answer.stop)


def grade_response(victim: TextVictim, response: Decoded, example: Example) -> Grade:
    """Returns a response's grade."""
    return victim.grader.grade(victim.grader.row(0.0, response.text, cut=response.cut), example)


def find_unfit_responses(victim: TextVictim, examples: Sequence[Example]) -> dict[str, str]:
    """Returns the reasons, by id, of examples without a sequence margin."""
    dtype = next(victim.model.parameters()).dtype
    if dtype not in EXACT:
        name = str(dtype).removeprefix("torch.")
        reason = f"in {name} a response depends on the batch, so it has no margin; run with --dtype float32"
        return {example.id: reason for example in examples}
    unfit = dict(_find_unread(victim, examples))
    fit = [example for example in examples if example.id not in unfit]
    for example, target in zip(fit, find_targets(victim, fit), strict=True):
        if not target.is_right and target.tokens == target.response.tokens:
            unfit[example.id] = "its response begins like its gold text, and is cut before the gold text ends"
    return unfit


def _find_unread(victim: TextVictim, examples: Sequence[Example]) -> Iterator[tuple[str, str]]:
    for example in examples:
        if problem := victim.grader.problem(example):
            yield example.id, problem
            continue
        try:
            victim.encode(example.texts)
        except ValueError as error:
            yield example.id, str(error)
