"""Precisions: tests which is faster on a device, and says how far each rounds."""

from __future__ import annotations

import time
from functools import cache

import torch

from robustness.errors import UsageError
from robustness.victims.cpu_features import refuse_missing_cpu_features

ROWS, WIDTH = 128, 512
"""Size of the matrices: that of a small model, and done in a second even if bfloat16 is emulated."""
TRIES = 5
GAIN = 1.1
"""Least saving that makes bfloat16 worth its rounding; less may be noise of the clock."""

ROUNDING_UNITS = 8
"""Largest effect of rounding on a logit, in units of rounding of the largest logit.

Measured on decoders of 30 layers with random weights in bfloat16: 2.5 by a cache, 3 by padding. A cache that is read
wrongly moves logits by more than 50.
"""


def rounding_share(dtype: torch.dtype) -> float:
    """Returns the largest effect of rounding on a logit, relative to the largest logit.

    >>> rounding_share(torch.bfloat16)  # 8 x 2 ** -7
    0.0625
    """
    return ROUNDING_UNITS * torch.finfo(dtype).eps


@cache
def faster_dtype(device: torch.device) -> torch.dtype:
    """Returns bfloat16 if matrix products are faster in it than in float32, else float32.

    What a GPU announces decides, because a small product takes it as long in any type. A processor's announced
    features do not decide. Some have the instructions but are slower with them; without them bfloat16 takes
    a hundred times as long. Results differ by rounding, so judgements stay in float32.
    """
    if device.type == "cuda":
        is_faster = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if is_faster else torch.float32
    if device.type == "cpu":
        try:
            refuse_missing_cpu_features()
        except UsageError:  # the product would end the process
            return torch.float32
    slow, fast = (_seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if fast * GAIN < slow else torch.float32


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    """The shortest time of some products, without the first, which selects kernels."""
    # Not drawn: the random state may be that of a training.
    rows, weight = (torch.ones(size, WIDTH, device=device, dtype=dtype) for size in (ROWS, WIDTH))
    best = float("inf")
    with torch.inference_mode():
        for turn in range(TRIES + 1):
            start = time.perf_counter()
            float(torch.nn.functional.linear(rows, weight)[0, 0])  # waits for the device
            if turn:
                best = min(best, time.perf_counter() - start)
    return best
