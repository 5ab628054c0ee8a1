"""Checks that this processor has the instructions of bfloat16 kernels."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import torch

from robustness.errors import UsageError

PROBE = (
    "import torch; layer = torch.nn.Linear(384, 384).bfloat16(); "
    "torch.inference_mode().__enter__(); layer(torch.ones(64, 384, dtype=torch.bfloat16))"
)
PROBE_SECONDS = 120


def refuse_missing_cpu_features() -> None:
    """Raises UsageError if a bfloat16 layer would end the process.

    oneDNN trusts the processor's announced instructions. Virtual machines announce AMX without permission to use it,
    and the first layer dies of an illegal instruction. So a separate process tries one layer, once.
    """
    if not torch.backends.mkldnn.enabled or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    code = _try_layer()
    if code:
        raise UsageError(
            f"--dtype bfloat16: a layer in bfloat16 ends a process here (exit code {code}): the processor announces "
            "instructions it does not have. Set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, or AVX2, in the "
            "environment, which keeps oneDNN from them, or use --dtype float32 or --device cuda"
        )


@cache
def _try_layer() -> int:
    """The exit code of a process that runs one bfloat16 layer; negative if a signal ended it."""
    command = [sys.executable, "-c", PROBE]
    return subprocess.run(command, capture_output=True, check=False, timeout=PROBE_SECONDS).returncode
