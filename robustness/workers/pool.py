"""The pool of workers of an execution: started on demand, ended after the work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from robustness.errors import UsageError
from robustness.workers.dispatch import Dispatcher
from robustness.workers.execution import RAY, Execution
from robustness.workers.jobs import Bench, BenchSpec, Booking
from robustness.workers.packing import pack
from robustness.workers.processes import Processes
from robustness.workers.queue import Queue
from robustness.workers.ray_cluster import check_ray, open_crew

if TYPE_CHECKING:  # a caller without workers needs no torch
    import torch


def check_workers(execution: Execution, device: torch.device) -> None:
    """Checks, before reading anything, that the requested workers are available.

    Args:
        execution: the request.
        device: of the driver; every worker has a device of this kind.

    Raises:
        UsageError: Ray is missing, or GPUs are too few or shared by workers.
    """
    if execution.is_in_process:
        return
    if device.index is not None:
        raise UsageError(
            f"--device {device}: every worker has a GPU of its own; give --device cuda, and choose GPUs by "
            "CUDA_VISIBLE_DEVICES"
        )
    if execution.executor == RAY:
        check_ray(execution.ray_address)
    elif device.type == "cuda" and (execution.workers or 1) > len(_visible_devices()):
        raise UsageError(
            f"--workers {execution.workers}: each has a GPU of its own, and {len(_visible_devices())} are visible"
        )


@contextmanager
def open_workers(spec: BenchSpec, execution: Execution, device: torch.device) -> Iterator[Dispatcher]:
    """Yields the dispatcher of as many workers as there are; they start with its work and end with it.

    Args:
        spec: the bench of every worker.
        execution: the kind and number of workers.
        device: the kind of device; on CUDA every worker has one for itself, and computes one job at a time.

    Raises:
        UsageError: there is no Ray cluster, or it lacks what a worker needs.
    """
    on_gpus = device.type == "cuda"
    if execution.executor == RAY:
        with open_crew(execution.ray_address, execution.workers, pack(spec), on_gpus=on_gpus) as (crew, workers):
            yield Dispatcher(crew, workers)
        return
    import torch

    workers = execution.workers or 1
    threads = max(1, torch.get_num_threads() // workers)
    yield Dispatcher(Processes(pack(spec), _visible_devices() if on_gpus else [], threads), workers)


def compute_on_workers(
    bookings: Sequence[Booking], spec: BenchSpec, execution: Execution, device: torch.device
) -> list[str]:
    """Computes all jobs on workers, the costliest first; returns the doubts of their benches.

    Args:
        bookings: of the jobs; several kinds may be among them.
        spec: as `open_workers`.
        execution: as `open_workers`.
        device: as `open_workers`.

    Raises:
        RunError: no worker starts, or one has other libraries, or refuses its work.
        UsageError: as `open_workers`.
    """
    if not bookings:
        return []
    with open_workers(spec, execution, device) as dispatcher:
        return dispatcher.run(bookings)


def compute_here(bookings: Sequence[Booking], bench: Bench) -> None:
    """Computes all jobs in this process: in the order given, but first all jobs of what is loaded.

    Raises:
        Exception: any error of a job; earlier messages are stored.
    """
    queue = Queue(bookings, in_order=True)
    affinity = ""
    while queue:
        booking = queue.take(affinity).booking
        affinity = booking.job.affinity
        booking.begin()
        for message in bench.compute(booking.job):
            booking.store(message)
        queue.add(booking.finish())


def _visible_devices() -> list[str]:
    """The entries for CUDA_VISIBLE_DEVICES, from this process's GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [each.strip() for each in named.split(",")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
