from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robustness.definitions.tasks import find_task
from robustness.sensitivity.probe import Reading, Subject
from robustness.sensitivity.structure.gain import UpdateGain
from robustness.testsets.example import Example
from robustness.victims.files.checkpoint import read_checkpoint
from robustness.victims.heads.labels import Victim
from robustness.victims.loading import load_checkpoint, place, to_victim

LAYER = "encoder.layer.0.attention.self.query"


@pytest.fixture
def measured(tiny: Any) -> Callable[..., tuple[dict[tuple[str, str | None], float], Victim]]:
    def run(name: str, texts: list[str]) -> tuple[dict[tuple[str, str | None], float], Victim]:
        checkpoint = read_checkpoint(name, str(tiny.folder / name), str(tiny.base))
        victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))
        examples = [Example(str(number), (text,), 0) for number, text in enumerate(texts)]
        readings: list[Reading] = list(UpdateGain().measure(Subject(checkpoint, examples, 0, "d", lambda: victim)))
        found = {(r.measurement.quantity.name, r.module): r.measurement.value or 0.0 for r in readings}
        return found, victim

    return run


def test_a_first_layers_gain_is_that_of_the_embeddings_it_is_given(tiny: Any, measured: Callable) -> None:
    """Texts of unequal length, each run alone: padding does not count."""
    texts = [text for text, _ in tiny.dev[:3]] + ["fine"]

    found, victim = measured("full", texts)

    hidden = []
    for text in texts:
        tokens = victim.tokenizer(text, return_tensors="pt")
        hidden.append(victim.model.bert.embeddings(tokens["input_ids"])[0].detach().double().numpy())
    h = np.concatenate(hidden)
    before = load_file(tiny.base / "model.safetensors")[f"{LAYER}.weight"].double().numpy()
    change = victim.model.bert.get_submodule(LAYER).weight.detach().double().numpy() - before
    moved = np.sum((h @ change.T) ** 2)
    assert found["update-gain", LAYER] == pytest.approx(np.sqrt(moved / np.sum((h @ before.T) ** 2)), rel=1e-5)
    chance = np.sum(change**2) * np.sum(h**2) / h.shape[1]
    assert found["update-gain-over-chance", LAYER] == pytest.approx(np.sqrt(moved / chance), rel=1e-5)


def test_random_updates_make_of_activations_what_chance_says() -> None:
    """The closed form against draws."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(5, 40, generator=generator, dtype=torch.float64) * torch.linspace(0, 3, 40)
    ratios = []
    for _ in range(300):
        update = torch.randn(30, 40, generator=generator, dtype=torch.float64)
        ratios.append(float((h @ update.T).square().sum() / (update.square().sum() * h.square().sum() / 40)))

    assert np.mean(ratios) == pytest.approx(1, abs=4 * np.std(ratios) / np.sqrt(300))


def test_layers_that_lora_left_alone_have_no_gain(tiny: Any, measured: Callable) -> None:
    found, _ = measured("lora", [text for text, _ in tiny.dev[:2]])

    modules = {module for _, module in found if module}
    assert modules == {f"encoder.layer.{i}.attention.self.{name}" for i in (0, 1) for name in ("query", "value")}
    assert found["update-gain", None] == pytest.approx(
        np.median([value for (name, module), value in found.items() if name == "update-gain" and module])
    )
