"""One random generator per example, so that no outcome depends on other examples."""

from __future__ import annotations

import hashlib

import numpy as np


def example_generator(seed: int, attack_digest: str, example_id: str) -> np.random.Generator:
    """Returns the generator of (run seed, attack digest, example id).

    >>> draws = [int(example_generator(0, "digest", name).integers(1_000_000)) for name in ("x", "x", "y")]
    >>> draws[0] == draws[1], draws[0] == draws[2]
    (True, False)
    """
    material = f"{seed}\x1f{attack_digest}\x1f{example_id}".encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(material).digest()[:16]))
