"""Distances of a real MiniLM, tuned in full and by LoRA: against other attacks, and in any company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LABELS, fit, write_sentences
from peft import LoraConfig, get_peft_model
from transformers import BertForSequenceClassification, BertTokenizerFast

from robustness.definitions.tasks import find_task
from robustness.recipes.embedding.balls import Norm, sizes
from robustness.recipes.embedding.minimal_norm import Ddn, Fmn
from robustness.recipes.embedding.trial import Loss, Trial
from robustness.sensitivity.input.distance import AdversarialDistance, Ensemble
from robustness.sensitivity.probe import Subject
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.embedded_batch import EmbeddedBatch, frozen
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]  # training, and fifteen other searches an example
EXAMPLES = 12
RESTARTS = 5
PROBE = AdversarialDistance((Norm.L2,), 40, 2, 0, 1, 0, 1)


@pytest.fixture(scope="module")
def victims(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Victim]:
    """Both arms, tuned for a few steps on made-up sentences: neither is saturated."""
    folder = tmp_path_factory.mktemp("real")
    rows = write_sentences(folder / "train.tsv", 24, seed=0)
    tokenizer = BertTokenizerFast.from_pretrained(minilm)
    found = {}
    for name, rate in (("full", 1e-4), ("lora", 2e-3)):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model: Any = BertForSequenceClassification.from_pretrained(minilm, id2label=LABELS, num_labels=2)
            if name == "lora":
                config = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"])
                model = get_peft_model(model, config)
            fit(model, tokenizer, rows, rate)
        whole = model.merge_and_unload() if name == "lora" else model
        whole.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        checkpoint = read_checkpoint(name, str(folder / name), str(minilm))
        found[name] = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
    return found


@pytest.fixture(scope="module")
def examples_of(victims: dict[str, Victim], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Twelve sentences of different lengths, each with the label that the arm gives it."""
    rows = write_sentences(tmp_path_factory.mktemp("dev") / "dev.tsv", EXAMPLES, seed=3)
    texts = [" ".join([text, *(other for other, _ in rows[: n % 3])]) for n, (text, _) in enumerate(rows)]

    def make(name: str) -> list[Example]:
        answers = victims[name].scores([(text,) for text in texts]).argmax(axis=1)
        return [Example(str(n), (text,), int(answers[n])) for n, text in enumerate(texts)]

    return make


def sqp(batch: EmbeddedBatch, start: torch.Tensor, steps: int = 60) -> float:
    """min |d|^2 with the margin linear at d: d <- g (g.d - m) / |g|^2, half of the way; then bisects the length."""
    trial, rows, delta = Trial(batch, Loss.MARGIN), torch.tensor([0]), start
    for _ in range(steps):
        slope = trial.slope(rows, delta)
        trial.propose_smaller(rows, delta, slope.fooled, Norm.L2)
        gradient = -slope.gradient  # of the margin
        share = ((gradient * delta).sum() - slope.margins) / gradient.square().sum().clamp_min(1e-30)
        delta = (delta + share * gradient) / 2
    trial.shorten(12, Norm.L2)
    return float(trial.result().distance(Norm.L2))


def reference(batch: EmbeddedBatch, scale: float) -> float:
    """The nearest of DDN, FMN and sequential quadratic programming, five starts each."""
    found = []
    for number in range(RESTARTS):
        first = torch.tensor([scale * 2.0 ** (number - 2)])
        generator = torch.Generator().manual_seed(number)
        noise = torch.randn(batch.embeddings.shape, generator=generator) * batch.content[:, :, None]
        ddn = Ddn(steps=100).perturb(batch, first)
        fmn = Fmn(Norm.L2, steps=100, step_size=0.5**number).perturb(batch)
        start = ddn.delta + 0.1 * scale * noise / sizes(noise, Norm.L2)
        found += [float(ddn.distance(Norm.L2)), float(fmn.distance(Norm.L2)), sqp(batch, start)]
    return min(found)


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_distances_are_as_near_as_the_nearest_of_fifteen_other_attacks(
    arm: str, victims: dict[str, Victim], examples_of: Callable[[str], Any]
) -> None:
    victim, ratios = victims[arm], []

    with frozen(victim):
        for example in examples_of(arm):
            batch = victim.embed([example])
            distance = float(Ensemble(Norm.L2, PROBE.steps, PROBE.restarts).search(batch).distance(Norm.L2))
            ratios.append(distance / reference(batch, distance))

    assert len(ratios) == EXAMPLES
    assert np.median(ratios) <= 1.02 and max(ratios) <= 1.15


@pytest.mark.parametrize("arm", ["full", "lora"])
def test_distances_of_a_real_model_are_the_same_in_batches_of_one_three_and_eight(
    arm: str, victims: dict[str, Victim], examples_of: Callable[[str], Any], by_example: Callable[..., Any]
) -> None:
    chosen = examples_of(arm)[:8]

    def distances(size: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for start in range(0, 8, size):
            part = Subject(None, chosen[start : start + size], 0, "d", lambda: victims[arm])  # type: ignore[arg-type]
            found |= by_example(PROBE._find(part, Norm.L2), "distance")
        return found

    assert distances(1) == distances(3) == distances(8)
