"""Embedding PGD on MiniLM beside the forward and backward passes it cannot do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from robustness.engine.outcome import Status
from robustness.recipes.embedding.attack import WithinRadii, attack_embeddings, seeded_generators
from robustness.recipes.embedding.ball_attacks import Pgd
from robustness.recipes.embedding.balls import Norm
from robustness.testsets.example import Example
from robustness.victims.heads import embedded_batch as gradients
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

EXAMPLES = 32
STEPS = 20
BATCH_TOKENS = (256, 512, 1024)
ROUNDS = 3
WORDS = ("the", "film", "is", "a", "warm", "and", "clever", "story", "of", "two", "brothers", "who", "mend", "years")


@pytest.fixture
def victim(minilm: Path) -> Victim:
    """MiniLM with a head that is drawn, not trained: the passes cost the same."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2).eval()
    return Victim(model, AutoTokenizer.from_pretrained(minilm), (0, 1))


def write_examples(victim: Victim) -> list[Example]:
    """Sentences as long as SST-2's, labelled as the victim answers: every one is attacked."""
    rng = np.random.default_rng(0)
    texts = [(" ".join(rng.choice(WORDS, size=rng.integers(4, 40))),) for _ in range(EXAMPLES)]
    labels = victim.scores(texts).argmax(axis=1)
    return [Example(str(i), text, int(label)) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]


def pass_floor(victim: Victim, batches: Sequence[list[Example]]) -> float:
    """Processor seconds for STEPS bare forward and backward passes to the embeddings over the same batches.

    With one thread they are the seconds of an idle machine, whatever runs beside.
    """
    started = time.process_time()
    with frozen(victim):
        for examples in batches:
            batch = victim.embed(examples)
            point = batch.embeddings.requires_grad_()
            for _ in range(STEPS):
                torch.autograd.grad(margins(batch.logits(point), batch.labels).sum(), point)
    return time.process_time() - started


def test_pgd_is_near_the_floor_of_its_passes(
    victim: Victim, save_result: Callable[[str, dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = write_examples(victim)
    # So small a ball that nothing is found: an example that leaves early would flatter the figure.
    attack = WithinRadii(Pgd(Norm.L2, steps=STEPS), (1e-6,))
    floors: dict[int, list[float]] = {tokens: [] for tokens in BATCH_TOKENS}
    seconds: list[float] = []
    outcomes = []
    pass_floor(victim, victim.gradient_batches(examples[:8]))  # warm-up

    for _ in range(ROUNDS):
        for tokens in BATCH_TOKENS:
            with monkeypatch.context() as patch:
                patch.setattr(gradients, "CPU_GRADIENT_TOKENS", tokens)
                batches = victim.gradient_batches(examples)
            floors[tokens].append(pass_floor(victim, batches))
        started = time.process_time()
        outcomes = list(attack_embeddings(attack, victim, examples, seeded_generators(0, "benchmark")))
        seconds.append(time.process_time() - started)

    floor = min(float(np.median(times)) for times in floors.values())
    figures = {
        "examples": EXAMPLES,
        "steps": STEPS,
        "pgd_processor_seconds": float(np.median(seconds)),
        "floor_processor_seconds": floor,
        "floor_processor_seconds_by_batch_tokens": {str(n): float(np.median(times)) for n, times in floors.items()},
        "pgd_over_floor": float(np.median(seconds)) / floor,
        "failed": sum(outcome.status is Status.FAILED for outcome in outcomes),
    }
    save_result("embedding_pgd", figures)

    assert figures["failed"] == EXAMPLES
    assert figures["pgd_over_floor"] <= 1.3
