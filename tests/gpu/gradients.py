"""Steps on gradients: they agree with a processor's whatever the head, and fit the memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gpu.bench import ROOM, Bench
from gpu.steps import Found, Step, require
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import CUDA_GRADIENT_TOKENS, frozen, margins
from robustness.victims.heads.head import Head
from robustness.victims.heads.text_gradients import text_gradients

TOLERANCE = 5e-3
"""Of a float32 gradient between two devices, as a share of its largest number."""
ALIKE = 0.8
"""The least cosine between a gradient in bfloat16 and in float32."""


def slope(victim: Head, examples: Sequence[Example]) -> torch.Tensor:
    """The gradient of the margins by the embeddings, on the processor, shape (batch, tokens, dim)."""
    with frozen(victim), torch.enable_grad():
        batch = victim.embed(examples)
        point = batch.embeddings.requires_grad_()
        (gradient,) = torch.autograd.grad(margins(batch.logits(point), batch.labels).sum(), point)
    return gradient.float().cpu()


def gradients_agree(bench: Bench) -> Found:
    """Gradients of a head for labels, for spans and of prompts, here and on the processor."""
    figures = []
    heads = (("labels", bench.encoder, bench.examples), ("spans", bench.reader, bench.asked))
    for name, victim, examples in (*heads, ("prompts", bench.prompted, bench.prompts)):
        some = examples[:2]
        here, there = slope(victim, some), slope(bench.twin(victim, "cpu", torch.float32), some)
        require(bool(here.isfinite().all()) and bool(here.any()), f"{name}: the gradient is not finite, or zero")
        off = float((here - there).abs().max() / there.abs().max())
        require(off <= TOLERANCE, f"{name}: off by {off:.2g} of the largest number")
        figures.append(f"{name} {off:.1e}")
    return Found("off by, of the largest: " + ", ".join(figures))


def bfloat16_gradients(bench: Bench) -> Found:
    """The encoder's gradients in bfloat16 point the same way."""
    some = bench.examples[:8]
    exact = slope(bench.encoder, some).flatten(1)
    rough = slope(bench.twin(bench.encoder, str(bench.device), torch.bfloat16), some).flatten(1)
    cosines = torch.nn.functional.cosine_similarity(exact, rough, dim=1)
    require(float(cosines.median()) >= ALIKE, f"the median cosine with float32 is {float(cosines.median()):.2f}")
    return Found(f"median cosine with float32 {float(cosines.median()):.3f}, least {float(cosines.min()):.3f}")


def text_gradients_halve(bench: Bench) -> Found:
    """Gradients at texts where a batch of them does not fit."""
    victim = bench.twin(bench.encoder, str(bench.device), torch.float32)
    some = bench.examples[: max(4, CUDA_GRADIENT_TOKENS // 40)]
    expected = text_gradients(victim, some)
    with bench.short_of_memory(
        victim, 3 * ROOM if bench.on_cuda else 25
    ):  # a backward pass keeps what a forward frees
        found = text_gradients(victim, some)
    worst = max(
        float(abs(a.gradient - b.gradient).max() / max(abs(a.gradient).max(), 1e-9))
        for a, b in zip(expected, found, strict=True)
    )
    require(worst <= TOLERANCE, f"gradients differ by {worst:.2g} of their largest number")
    return Found(f"{len(some)} texts, off by {worst:.1e} of the largest number")


STEPS: tuple[Step[Bench], ...] = (
    Step("gradients", gradients_agree),
    Step("bfloat16 gradients", bfloat16_gradients),
    Step("gradients, short of memory", text_gradients_halve),
)
