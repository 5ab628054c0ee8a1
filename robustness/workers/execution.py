"""The caller's choice of executor and workers; results do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from robustness.errors import UsageError

LOCAL, RAY = "local", "ray"


@dataclass(frozen=True, slots=True)
class Execution:
    """The executor with its workers.

    >>> Execution(workers=4).executor
    'local'

    Raises:
        UsageError: an unknown executor, fewer workers than one, or an address without Ray.
    """

    executor: str = LOCAL
    workers: int | None = None
    """Processes; None: with `local` only this one, with `ray` one for each GPU or, without GPUs, each node."""
    ray_address: str | None = None
    """HOST:PORT of the head node, or auto; None starts Ray on this machine."""

    def __post_init__(self) -> None:
        if self.executor not in (LOCAL, RAY):
            raise UsageError(f"--executor {self.executor}: expected {LOCAL} or {RAY}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}: expected at least 1")
        if self.ray_address is not None and self.executor != RAY:
            raise UsageError(f"--ray-address {self.ray_address}: needs --executor {RAY}")

    @property
    def is_in_process(self) -> bool:
        """Whether this process computes everything itself."""
        return self.executor == LOCAL and self.workers is None
