"""Packing: the bytes in which a bench's description travels to a worker."""

from __future__ import annotations

import pickle

from robustness.errors import UsageError
from robustness.workers.jobs import BenchSpec


def pack(spec: BenchSpec) -> bytes:
    """Returns the packed description."""
    return pickle.dumps(spec)


def unpack(packed: bytes) -> BenchSpec:
    """Returns the description that this process's own driver has packed; never unpack a file.

    Raises:
        Exception: unpickling imports modules, which may raise anything.
    """
    spec: BenchSpec = pickle.loads(packed)
    return spec


def refuse_unsendable(what: str, given: object) -> None:
    """Refuses an object of the caller that no other process can get.

    Args:
        what: its kind and name, such as `attack Mine`.
        given: the object.

    Raises:
        UsageError: it cannot be pickled.
    """
    try:
        pickle.dumps(given)
    except Exception as error:  # a user's object may raise anything
        raise UsageError(
            f"{what}: was given as an object that cannot be sent to workers: {type(error).__name__}: {error}; name "
            "it as file.py:Name, or run without workers"
        ) from None
