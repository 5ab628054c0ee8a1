"""The range of seeds that every library takes."""

from __future__ import annotations

from robustness.errors import UsageError

LARGEST_SEED = 2**32 - 1
"""NumPy's global generator, which transformers seeds, takes no larger one."""


def refuse_seed(seed: int) -> None:
    """Raises UsageError for a seed that some library would refuse later."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"--seed {seed}: expected 0 to {LARGEST_SEED}")
