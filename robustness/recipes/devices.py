"""The device that recipes' own models run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # naming a device brings no torch
    import torch

_device = "auto"


def use_device(device: str) -> None:
    """Names the device of recipes' own models: auto, cpu, cuda or cuda:N."""
    global _device
    _device = device


def recipe_device() -> torch.device:
    """Returns the device of recipes' own models; raises UsageError for an unknown or absent one."""
    from robustness.victims.loading import place

    return place(_device).device
