"""The memory of probes of the parameters, counted by torch's allocator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from allocated import peak_bytes
from peft import LoraConfig

from robustness.sensitivity.parameter.curvature import Curvature
from robustness.sensitivity.parameter.parameter_margin import ParameterMargin
from robustness.sensitivity.parameter.reachability import Reachability
from robustness.sensitivity.parameter.rounding import WeightRounding
from robustness.sensitivity.parameter.sharpness import Sharpness
from robustness.sensitivity.parameter.weights import block_matrices, block_parameters
from robustness.sensitivity.probe import Subject

SLACK = 0.35
"""Copies beside: activations of a text, and a few tensors of one layer, of which the model has only six."""


@pytest.fixture(scope="module")
def subject(architecture: Any) -> Subject:
    """A LoRA arm whose adapter reaches all matrices of the blocks, with one text."""
    made = architecture("large")
    targets = ["query", "key", "value", "dense"]
    folder = made.adapter(LoraConfig(task_type="SEQ_CLS", r=2, target_modules=targets, exclude_modules=r".*pooler.*"))
    found: Subject = made.subject(folder)
    found.victim.scores([found.examples[0].texts])
    return replace(found, examples=found.examples[:1])


def copies(subject: Subject, probe: Any, moved: Any) -> float:
    """The peak of a probe in copies of what it moves."""
    size = sum(value.numel() * value.element_size() for value in moved)
    return peak_bytes(lambda: list(probe.measure(subject))) / size


@pytest.mark.parametrize(
    "probe",
    [
        Sharpness(frobenius=0.3, module_relative=0.02, adaptive=2.0, steps=1, adaptive_in_tangent=True),
        ParameterMargin(steps=2),
        Reachability(attack_steps=2),
        Curvature(iterations=2, draws=1),
    ],
    ids=lambda probe: type(probe).__name__,
)
def test_a_probe_of_gradients_holds_one_gradient_and_one_copy_of_the_weights(probe: Any, subject: Subject) -> None:
    found = copies(subject, probe, block_parameters(subject.victim.model).values())

    assert found <= 2 + SLACK


def test_rounding_holds_one_copy_of_the_weights(subject: Subject) -> None:
    matrices = [value for value, _ in block_matrices(subject.victim.model).values()]

    assert copies(subject, WeightRounding((4, 8)), matrices) <= 1 + SLACK


def test_the_peak_of_a_known_allocation_is_counted() -> None:
    def allocate() -> None:
        first = torch.ones(1000)
        second = first + 1
        del first, second
        torch.ones(1500)

    assert 8000 <= peak_bytes(allocate) <= 8100  # torch keeps the number 1 as a tensor for a while
