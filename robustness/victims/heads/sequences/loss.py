"""The gradient at a text of the loss of its gold response."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import group_by_length
from robustness.victims.heads.sequences.margin import NONE, TARGETS, target_inputs, target_logits
from robustness.victims.heads.text_gradients import TextGradient, differentiate_batches, gradient_at
from robustness.victims.heads.verbaliser_gradients import locate_in_prompts
from robustness.victims.lookup import look_up
from robustness.victims.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from robustness.victims.heads.texts import TextVictim


def response_gradients(victim: TextVictim, examples: Sequence[Example]) -> list[TextGradient]:
    """Returns the gradient at each text of the mean negative log-likelihood of its gold response's tokens."""
    rows = [victim.encode(example.texts) + victim.target(example)[:-1] for example in examples]
    batches = group_by_length(examples, rows, victim.company, victim.device)
    return differentiate_batches(victim, examples, batches, partial(_differentiate, victim))


def sequence_losses(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Returns the mean negative log-likelihood of each row's target tokens, shape (batch,), float64.

    In double precision, so that the slope does not vanish where the model is confident.

    Args:
        logits: (batch, longest, vocabulary).
        tokens: (batch, longest).
    """
    spent = -logits.double().log_softmax(dim=2).gather(2, tokens.clamp_min(0)[:, :, None])[:, :, 0]
    is_token = tokens != NONE
    return spent.masked_fill(~is_token, 0.0).sum(dim=1) / is_token.sum(dim=1)


def _differentiate(victim: TextVictim, examples: Sequence[Example]) -> list[TextGradient]:
    prompts = [victim.encode(example.texts) for example in examples]
    targets = [victim.target(example) for example in examples]
    ids, mask = victim.causal.pad([p + t[:-1] for p, t in zip(prompts, targets, strict=True)], left=False)
    inputs = {"input_ids": ids, "attention_mask": mask, **target_inputs(prompts, targets, ids)}
    point = look_up(victim.model, ids).detach().requires_grad_()
    with torch.enable_grad():
        losses = sequence_losses(target_logits(victim, point, inputs), inputs[TARGETS])
        (slope,) = torch.autograd.grad(losses.sum(), point)
    vocabulary = vocabulary_of(victim)
    located = locate_in_prompts(victim, examples)
    answers = victim.rows_along(examples, [None] * len(examples))
    found = []
    for row, (example, own, answer) in enumerate(zip(examples, located, answers, strict=True)):
        _, places = victim.encode_segments(example.texts)
        open_tokens = [place is not None and place[0] in example.attacked for place in places]
        gradient = slope[row, : len(places)][torch.tensor(open_tokens)].cpu().numpy()
        found.append(gradient_at(victim.grader, example, answer, own, gradient, vocabulary))
    return found
