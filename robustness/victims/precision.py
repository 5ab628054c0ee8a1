"""Which precision computes faster on a device, by trying."""

from __future__ import annotations

import time
from functools import cache

import torch

from robustness.errors import UsageError
from robustness.victims.cpu_features import refuse_missing_cpu_features

ROWS, WIDTH = 128, 512
"""Of the matrices: a small model's, and done in a second where bfloat16 is computed number by number."""
TRIES = 5
GAIN = 1.1
"""What bfloat16 must save to be worth its rounding: less is noise of the clock."""


@cache
def faster_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where a small matrix product takes less time in it than in float32, else float32.

    What a device says of itself does not tell: some have the instructions and are slower with them, and where they
    are missing bfloat16 takes a hundred times as long. Results differ by rounding: what is judged stays in float32.
    """
    if device.type == "cpu":
        try:
            refuse_missing_cpu_features()
        except UsageError:  # the product would end the process
            return torch.float32
    slow, fast = (_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if fast * GAIN < slow else torch.float32


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The shortest of some products; the first, for which kernels are chosen, is not counted."""
    layer = torch.nn.Linear(WIDTH, WIDTH, device=device, dtype=dtype)
    rows = torch.ones(ROWS, WIDTH, device=device, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for turn in range(TRIES + 1):
            start = time.perf_counter()
            float(layer(rows)[0, 0])  # waits for a GPU
            if turn:
                best = min(best, time.perf_counter() - start)
    return best
