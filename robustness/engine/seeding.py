"""Randomness that belongs to one example, so that an outcome depends on nothing that runs beside it."""

from __future__ import annotations

import hashlib

import numpy as np


def example_generator(seed: int, attack_digest: str, example_id: str) -> np.random.Generator:
    """Returns the generator of (run seed, attack digest, example id).

    >>> a = example_generator(0, "d", "x").integers(1_000_000)
    >>> a == example_generator(0, "d", "x").integers(1_000_000) != example_generator(0, "d", "y").integers(1_000_000)
    True
    """
    material = f"{seed}\x1f{attack_digest}\x1f{example_id}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(material).digest()[:16]))
