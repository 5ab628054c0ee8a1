"""Any victim as a differentiable function of word embeddings, whatever its head."""

from __future__ import annotations

from collections.abc import Sequence

from robustness.testsets.example import Example
from robustness.victims.heads.label_gradients import EmbeddedBatch, embed, gradient_batches, group_by_length
from robustness.victims.heads.span_gradients import embed_questions, find_unfit_questions, first_windows
from robustness.victims.heads.spans import AnsweringVictim
from robustness.victims.heads.verbaliser_gradients import embed_prompts
from robustness.victims.heads.verbalisers import PromptedVictim
from robustness.victims.kinds import AnyVictim


def embed_any(victim: AnyVictim, examples: Sequence[Example]) -> EmbeddedBatch:
    """Encodes examples as one padded batch: labels' logits, verbalisers' scores, or a right and a wrong span's logit.

    Raises:
        UsageError, CheckpointError: what `embed` does.
    """
    if isinstance(victim, AnsweringVictim):
        return embed_questions(victim, examples)
    if isinstance(victim, PromptedVictim):
        return embed_prompts(victim, examples)
    return embed(victim, examples)


def batches_of_any(victim: AnyVictim, examples: Sequence[Example]) -> list[list[Example]]:
    """Groups examples by token length, longest first, so that a batch fits the device and pads little."""
    texts = [example.texts for example in examples]
    if isinstance(victim, AnsweringVictim):
        return group_by_length(examples, first_windows(victim, texts), victim.company, victim.device)
    if isinstance(victim, PromptedVictim):
        rows = [victim.encode(text) for text in texts]
        return group_by_length(examples, rows, victim.company, victim.device)
    return gradient_batches(victim, examples)


def find_unfit(victim: AnyVictim, examples: Sequence[Example]) -> dict[str, str]:
    """Returns why, by id, the examples that have no margin have none; where answers are labels all have one."""
    return find_unfit_questions(victim, examples) if isinstance(victim, AnsweringVictim) else {}
