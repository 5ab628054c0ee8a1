"""The sequence margin: a language model's response as a differentiable function of its prompt's embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from robustness.errors import UsageError
from robustness.tasks.grading import Grade
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import (
    EmbeddedBatch,
    Forward,
    Grades,
    group_by_length,
    is_open,
    median_token_norm,
)
from robustness.victims.heads.sequences.decoding import decode_perturbed
from robustness.victims.heads.sequences.targets import Target, find_targets, grade_response, limits_of
from robustness.victims.inputs import accepted_inputs
from robustness.victims.lookup import look_up, replaced_lookup

if TYPE_CHECKING:
    from robustness.victims.heads.texts import TextVictim

TARGETS, STARTS, NUMBERS = "target_tokens", "target_starts", "row_numbers"
"""Names among a batch's inputs: tokens (batch, longest), place that predicts the first (batch,), its row (batch,)."""
NONE = -1
"""Placeholder after a target's end."""


def embed_responses(victim: TextVictim, examples: Sequence[Example]) -> EmbeddedBatch:
    r"""Encodes examples as one padded batch of prompts followed by their targets.

    The two logits are at the weakest token of the target: the token's own and the best other. Their difference is the
    sequence margin $$m = \min_t \left( z_{y_t} - \max_{v \ne y_t} z_v \right).$$ The content is the prompt's
    unprotected tokens of attacked segments, without template and target.

    Raises:
        UsageError: no examples.
        CheckpointError: the tokenizer gives no token places, or the model does not read its embeddings exactly once.
    """
    if not examples:
        raise UsageError("embedding a batch: expected at least one example")
    targets = find_targets(victim, examples)
    ids, mask = victim.causal.pad([target.row for target in targets], left=False)
    content = torch.zeros_like(mask, dtype=torch.bool)
    for row, (example, target) in enumerate(zip(examples, targets, strict=True)):
        flags = [place is not None and is_open(example, place) for place in target.places]
        content[row, : len(flags)] = torch.tensor(flags, dtype=torch.bool, device=content.device)
    with torch.no_grad():
        embeddings = look_up(victim.model, ids)
    inputs = {"input_ids": ids, "attention_mask": mask, **target_inputs([t.prompt for t in targets], targets, ids)}
    labels = torch.zeros(len(examples), dtype=torch.long, device=victim.device)
    return EmbeddedBatch(
        embeddings,
        content,
        labels,
        median_token_norm(victim),
        inputs,
        _forward_of(victim),
        chance=0.0,
        grade=_grades_of(victim, examples, targets, embeddings),
    )


def batch_responses(victim: TextVictim, examples: Sequence[Example]) -> list[list[Example]]:
    """Groups examples by the length of their prompts and targets."""
    rows = [target.row for target in find_targets(victim, examples)]
    return group_by_length(examples, rows, victim.company, victim.device)


def target_inputs(
    prompts: Sequence[Sequence[int]], targets: Sequence[Target | Sequence[int]], ids: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Returns the places and the tokens of a batch's targets."""
    rows = [target.tokens if isinstance(target, Target) else target for target in targets]
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[NONE] * (longest - len(row))] for row in rows], device=ids.device)
    starts = torch.tensor([len(prompt) - 1 for prompt in prompts], device=ids.device)
    return {TARGETS: tokens, STARTS: starts, NUMBERS: torch.arange(len(rows), device=ids.device)}


def target_logits(victim: TextVictim, embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Returns the logits at the place of each target token, shape (batch, longest, vocabulary), float32."""
    ids, starts = inputs["input_ids"], inputs[STARTS]
    given = {"input_ids": ids, "attention_mask": inputs["attention_mask"]}
    keep = ids.shape[1] - int(starts.min())
    options = {"logits_to_keep": keep, "use_cache": False}
    accepted = accepted_inputs(victim.model)
    with replaced_lookup(victim.model, given, embeddings):
        named = {name: value for name, value in (given | options).items() if name in accepted}
        # A prompt's virtual tokens come first and have their own logits.
        logits: torch.Tensor = victim.model(**named).logits[:, -keep:]
    victim.forwards += len(ids)
    longest = inputs[TARGETS].shape[1]
    places = starts[:, None] - (ids.shape[1] - keep) + torch.arange(longest, device=ids.device)
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    return logits[rows, places.clamp_max(keep - 1)].float()


def token_margins(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Returns each target token's logit minus the best other one, shape (batch, longest); infinite after the end.

    Args:
        logits: (batch, longest, vocabulary).
        tokens: (batch, longest).

    >>> token_margins(torch.tensor([[[1.0, 4.0, 2.0], [0.0, 0.0, 0.0]]]), torch.tensor([[1, NONE]]))
    tensor([[2., inf]])
    """
    wanted = tokens.clamp_min(0)[:, :, None]
    others = logits.scatter(2, wanted, -torch.inf).amax(dim=2)
    found = logits.gather(2, wanted)[:, :, 0] - others
    return found.masked_fill(tokens == NONE, torch.inf)


def _forward_of(victim: TextVictim) -> Forward:
    def forward(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        logits, tokens = target_logits(victim, embeddings, inputs), inputs[TARGETS]
        weakest = token_margins(logits.detach(), tokens).argmin(dim=1)
        at = logits[torch.arange(len(tokens), device=tokens.device), weakest]
        own = tokens.gather(1, weakest[:, None])
        others = at.scatter(1, own, -torch.inf).amax(dim=1, keepdim=True)
        return torch.cat([at.gather(1, own), others], dim=1)

    return forward


def _grades_of(
    victim: TextVictim, examples: Sequence[Example], targets: Sequence[Target], clean: torch.Tensor
) -> Grades:
    """Checks right responses in one forward pass; decodes from the first token that is no longer the likeliest."""

    def grades(embeddings: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> list[Grade]:
        with torch.no_grad():
            missed = token_margins(target_logits(victim, embeddings, inputs), inputs[TARGETS]) <= 0
        found = []
        for row, number in enumerate(inputs[NUMBERS].tolist()):
            target, response = targets[number], targets[number].response
            agreed = len(target.tokens) if not missed[row].any() else int(missed[row].long().argmax())
            if not torch.equal(embeddings[row], clean[number]) and not (
                target.is_right and agreed == len(target.tokens)
            ):
                begun = target.tokens[:agreed] if target.is_right else ()
                prompt = embeddings[row, : len(target.prompt)]
                response = decode_perturbed(victim.causal, target.prompt, prompt, limits_of(victim), begun)
            found.append(grade_response(victim, response, examples[number]))
        return found

    return grades
