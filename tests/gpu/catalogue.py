"""All steps, the most important first."""

from __future__ import annotations

from gpu import attacks, gradients, probes, running, training, victims
from gpu.bench import Bench
from gpu.steps import Step

NOT_PRETENDED = (*running.STEPS, *training.STEPS)
"""What places models itself: it knows processors and CUDA."""


def all_steps(device: str) -> list[Step[Bench]]:
    """Returns the steps that can be run on a device."""
    steps = [
        *victims.STEPS,
        *gradients.STEPS,
        *attacks.STEPS,
        *training.STEPS,
        *running.STEPS,
        *probes.STEPS,
        *probes.HEADS,
    ]
    return [step for step in steps if device != "pretend" or step not in NOT_PRETENDED]
