from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from robustness.definitions.tasks import find_task
from robustness.sensitivity.measurement import MeasurementStatus
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


@pytest.fixture
def three(tiny: Any) -> tuple[Victim, Callable[..., list[Reading]]]:
    """A victim of its own, and its readings on three texts and on texts besides."""
    checkpoint = read_checkpoint("full", str(tiny.full), str(tiny.base))
    victim = to_victim(load_checkpoint(checkpoint, find_task("sst2")), place("cpu"))

    def run(*others: Example) -> list[Reading]:
        examples = [*others, *(Example(str(number), (text,), 0) for number, (text, _) in enumerate(tiny.dev[:3]))]
        return list(UpdateGain().measure(Subject(checkpoint, examples, 0, "d", lambda: victim)))

    return victim, run


def test_a_text_that_does_not_fit_the_window_is_errored_alone(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    victim, run = three
    expected, long = run(), Example("long", ("fine " * 9,), 0)

    def unless_long(method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(asked: Any) -> Any:
            if long in asked:
                raise ValueError("its prompt has more tokens than the window")
            return method(asked)

        return ask

    for name in ("embed", "gradient_batches"):
        monkeypatch.setattr(victim, name, unless_long(getattr(victim, name)))
    monkeypatch.setattr(victim, "find_unfit", lambda asked: {each.id: "too long" for each in asked if each is long})
    found = run(long)

    assert [reading for reading in found if reading.example is None] == expected
    (row,) = (reading for reading in found if reading.example is not None)
    assert (row.example, row.measurement.status) == (long, MeasurementStatus.ERRORED)
    assert "more tokens than the window" in row.measurement.reason


def test_a_batch_that_runs_out_of_memory_halfway_is_measured_in_parts(three: Any) -> None:
    victim, run = three
    expected = run()

    def refuse_many(_: Any, arguments: Any) -> None:
        if len(arguments[0]) > 1:
            raise torch.OutOfMemoryError

    victim.model.bert.encoder.layer[1].register_forward_pre_hook(refuse_many)
    found = run()

    values = [[reading.measurement.value for reading in each] for each in (expected, found)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)
