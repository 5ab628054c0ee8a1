"""What is called free of the logits' scale is; what is in logits grows with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from peft import LoraConfig

from robustness.sensitivity.building import find_probe
from robustness.sensitivity.input import substitution
from robustness.sensitivity.probe import Reading

FACTOR = 8.0
"""A power of two: products with it are exact, so that neither rounding nor a search's path differs."""
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "margin": {},
    "margin-gradient": {},
    "margin-gradient-l1": {},
    "jacobian-norm": {},
    "condition-profile": {},
    "first-order-radius": {},
    "adversarial-distance": {
        "norms": ["l2"],
        "steps": 4,
        "restarts": 1,
        "shrinking_rounds": 1,
        "checked_examples": 0,
    },
    "smoothing": {"selection_samples": 8, "samples": 16},
    "one-substitution": {},
    "safer": {"samples": 16},
    "reachability": {"attack_steps": 5},
    "lipschitz-lower": {"steps": 4, "restarts": 1},
    "parameter-margin": {"steps": 6},
    "weight-rounding": {"bits": [3]},
    "block-jacobians": {"steps": 4},
    "update-structure": {"draws": 1},
    "update-gain": {},
    "lipschitz-upper": {"samples": 16, "ascent_steps": 1},
    "layer-product": {},
}
SYNONYMS = {"fine": ("good", "lovely"), "dull": ("bad",), "lovely": ("fine",)}


@pytest.fixture(scope="module")
def world(architecture: Callable[[str], Any]) -> Any:
    made = architecture("bert")
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    folder = made.adapter(config, "scale-lora", std=0.2)
    victim = made.victim(folder)
    model = copy.deepcopy(victim.model)
    for parameter in model.classifier.parameters():
        parameter.data *= FACTOR
    louder = type(victim)(model, victim.tokenizer, victim._columns)
    return made, folder, victim, louder


def key_of(reading: Reading) -> tuple[object, ...]:
    measured, example = reading.measurement, reading.example
    place = (example and example.id, reading.layer, reading.module)
    return (*place, measured.quantity.name, measured.norm, measured.scope, measured.radius)


@pytest.mark.parametrize("name", BUDGETS)
def test_eight_times_the_logits_move_what_is_in_logits_and_nothing_scale_free(
    name: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(substitution, "load_synonyms", lambda *_: lambda word: SYNONYMS.get(word, ()))
    made, folder, victim, louder = world
    probe = find_probe(name, BUDGETS[name]).probe

    once, again = (
        {key_of(each): each.measurement for each in probe.measure(made.subject(folder, victim=each_victim))}
        for each_victim in (victim, louder)
    )

    assert once.keys() == again.keys()
    compared = 0
    for key, before in once.items():
        after, quantity = again[key], before.quantity
        assert before.status == after.status
        is_of_logits = quantity.unit.startswith("logits")
        assert not (is_of_logits and quantity.scale_free)
        if before.value is not None and (quantity.scale_free or is_of_logits):
            compared += 1
            factor = FACTOR if is_of_logits else 1.0
            assert after.value == pytest.approx(factor * before.value, rel=1e-3, abs=1e-9), key
    assert compared


def test_sharpness_is_not_called_scale_free_and_is_not(world: Any) -> None:
    """The loss saturates, so it is no multiple either."""
    made, folder, victim, louder = world
    probe = find_probe("sharpness", {"steps": 2}).probe

    once, again = (
        [each.measurement for each in probe.measure(made.subject(folder, victim=each))] for each in (victim, louder)
    )

    risen = [
        (quiet.value, loud.value)
        for quiet, loud in zip(once, again, strict=True)
        if quiet.quantity.name.startswith("sharpness")
    ]
    assert not any(each.quantity.scale_free for each in once if each.quantity.name.startswith("sharpness"))
    assert risen and all(loud > 1.2 * quiet for quiet, loud in risen)
