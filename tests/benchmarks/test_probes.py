"""Probes on MiniLM beside the passes that they cannot do without."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from robustness.recipes.embedding.balls import Norm
from robustness.sensitivity.input.distance import Ensemble
from robustness.sensitivity.input.jacobian import JacobianNorm
from robustness.sensitivity.input.smoothing import CPU_SAMPLE_TOKENS, noisy_counts
from robustness.sensitivity.parameter.reachability import clean_gradients, share_of
from robustness.sensitivity.parameter.tangent import Tangent, low_rank
from robustness.sensitivity.parameter.weights import WeightSpace, block_parameters
from robustness.sensitivity.probe import Subject
from robustness.testsets.example import Example
from robustness.victims.heads.embedded_batch import frozen, margins
from robustness.victims.heads.labels import Victim

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

EXAMPLES = 24
ROUNDS = 3
SAMPLES = 300
RANK = 8
WORDS = ("the", "film", "is", "a", "warm", "and", "clever", "story", "of", "two", "brothers", "who", "mend", "years")


@pytest.fixture(scope="module")
def victim(minilm: Path) -> Victim:
    """MiniLM with a head that is drawn, not trained: the passes cost the same."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2).eval()
    return Victim(model, AutoTokenizer.from_pretrained(minilm), (0, 1))


@pytest.fixture(scope="module")
def subject(victim: Victim) -> Subject:
    rng = np.random.default_rng(0)
    texts = [(" ".join(rng.choice(WORDS, size=rng.integers(4, 40))),) for _ in range(EXAMPLES)]
    labels = victim.scores(texts).argmax(axis=1)
    examples = [Example(str(i), text, int(label)) for i, (text, label) in enumerate(zip(texts, labels, strict=True))]
    return Subject(None, examples, 0, "benchmark", lambda: victim)  # type: ignore[arg-type]


def processor_seconds(function: Callable[[], Any]) -> float:
    """With one thread they are the seconds of an idle machine, whatever runs beside."""
    started = time.process_time()
    function()
    return time.process_time() - started


def ratio(ours: Callable[[], Any], floor: Callable[[], Any]) -> dict[str, float]:
    """Medians over rounds that alternate, after one round of each to warm up."""
    ours(), floor()
    times = [(processor_seconds(ours), processor_seconds(floor)) for _ in range(ROUNDS)]
    own, bare = (float(np.median(column)) for column in zip(*times, strict=True))
    return {"processor_seconds": own, "floor_processor_seconds": bare, "over_floor": own / bare}


def test_the_jacobian_norm_is_near_one_forward_and_a_backward_a_label(
    victim: Victim, subject: Subject, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    batches = victim.gradient_batches(subject.examples)

    def floor() -> None:
        with frozen(victim):
            for examples in batches:
                batch = victim.embed(examples)
                point = batch.embeddings.requires_grad_()
                logits = batch.logits(point)
                for label in range(2):
                    torch.autograd.grad(logits[:, label].sum(), point, retain_graph=label == 0)

    figures = ratio(lambda: list(JacobianNorm().measure(subject)), floor)
    save_result("probe_jacobian_norm", {"examples": EXAMPLES} | figures)

    assert figures["over_floor"] <= 1.2


def test_the_adversarial_distance_is_near_its_bare_passes(
    victim: Victim, subject: Subject, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    batches = [[example] for example in subject.examples]  # as the search takes them
    search = Ensemble(Norm.L2, 20)
    with frozen(victim):
        paid = [search.search(victim.embed(examples)) for examples in batches]

    def ours() -> None:
        with frozen(victim):
            for examples in batches:
                search.search(victim.embed(examples))

    def floor() -> None:
        """As many rows forward, and forward and backward, as the search paid for."""
        with frozen(victim):
            for examples, result in zip(batches, paid, strict=True):
                batch = victim.embed(examples)
                backwards = int(result.backwards.sum()) / len(examples)
                extra = int(result.forwards.sum()) / len(examples) - backwards
                point = batch.embeddings.requires_grad_()
                for _ in range(round(backwards)):
                    torch.autograd.grad(margins(batch.logits(point), batch.labels).sum(), point)
                with torch.no_grad():
                    for _ in range(round(extra)):
                        batch.logits(point)

    figures = ratio(ours, floor)
    save_result("probe_adversarial_distance", {"examples": EXAMPLES} | figures)

    assert figures["over_floor"] <= 1.3


def test_smoothing_is_near_the_forward_passes_of_its_samples(
    victim: Victim, subject: Subject, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    examples = subject.examples[:4]

    def ours() -> None:
        with frozen(victim):
            for example in examples:
                noisy_counts(victim.embed([example]), 0.05, SAMPLES, torch.Generator().manual_seed(0))

    def floor() -> None:
        with frozen(victim), torch.inference_mode():
            for example in examples:
                batch = victim.embed([example])
                size = CPU_SAMPLE_TOKENS // batch.embeddings.shape[1]
                for start in range(0, SAMPLES, size):
                    many = batch.select(torch.zeros(min(size, SAMPLES - start), dtype=torch.long))
                    victim.model(**many.inputs)

    figures = ratio(ours, floor)
    save_result("probe_smoothing", {"examples": len(examples), "samples": SAMPLES} | figures)

    assert figures["over_floor"] <= 1.15


def test_reachability_is_near_one_forward_and_one_dense_backward(
    victim: Victim, subject: Subject, save_result: Callable[[str, dict[str, Any]], None]
) -> None:
    parameters = block_parameters(victim.model)
    rng = torch.Generator().manual_seed(0)
    parts = [
        low_rank(name, torch.randn(RANK, 384, generator=rng), torch.randn(384, RANK, generator=rng), value)
        for name, value in parameters.items()
        if name.endswith(("query.weight", "value.weight"))
    ]
    tangent = Tangent(parts, parameters)
    examples = subject.examples[:12]
    weights = WeightSpace(parameters)

    def ours() -> None:
        for example in examples:
            with frozen(victim):
                batch = victim.embed([example])
                with weights:
                    for _ in clean_gradients(batch, weights):
                        share_of(weights.slope, tangent)

    def floor() -> None:
        for example in examples:
            with frozen(victim):
                batch = victim.embed([example])
                with weights:
                    logits = batch.logits(batch.embeddings)
                    loss = torch.nn.functional.cross_entropy(logits, batch.labels)
                    torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)

    figures = ratio(ours, floor)
    save_result("probe_reachability", {"examples": len(examples), "rank": RANK} | figures)

    assert figures["over_floor"] <= 1.3
