"""The executor with workers: processes of this machine, or actors of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch

from robustness.errors import UsageError
from robustness.runs.execution import RAY, Execution
from robustness.runs.executors.dispatch import Dispatcher, WorkerPool
from robustness.runs.executors.executor import Work
from robustness.runs.executors.processes import Processes
from robustness.runs.executors.ray_cluster import check_ray, open_crew
from robustness.runs.executors.shards import CUDA_SHARD, SHARD, make_shards
from robustness.runs.executors.worker import pack_worker_spec, references
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.storage.sink import Sink
from robustness.tasks.graders import grader_for
from robustness.victims.loading import Placement


def check_execution(execution: Execution, plan: Plan, placement: Placement) -> None:
    """Checks, before reading anything, that the requested workers are available.

    Raises:
        UsageError: Ray is missing, GPUs are too few or shared by workers, machines would share a query cache, or an
            attack object cannot be pickled.
    """
    if execution.is_in_process:
        return
    references(plan)
    if placement.device.index is not None:
        raise UsageError(
            f"--device {plan.settings.device}: every worker has a GPU of its own; give --device cuda, and choose "
            "GPUs by CUDA_VISIBLE_DEVICES"
        )
    if execution.executor == RAY:
        if plan.settings.cache is not None:
            raise UsageError(
                f"--cache {plan.settings.cache}: is one SQLite file, which machines cannot share; leave it out, "
                "or use --executor local --workers N"
            )
        check_ray(execution.ray_address)
    elif placement.device.type == "cuda" and (execution.workers or 1) > len(_visible_devices()):
        raise UsageError(
            f"--workers {execution.workers}: each has a GPU of its own, and {len(_visible_devices())} are visible"
        )


@final
class PoolExecutor:
    """Starts workers on demand, and ends them after the work.

    Args:
        execution: the kind and number of workers.
        plan: of the run.
        prepared: its checkpoints.
        placement: the victims' placement; every worker has a device of this kind.
    """

    def __init__(self, execution: Execution, plan: Plan, prepared: Prepared, placement: Placement) -> None:
        self._execution = execution
        self._plan = plan
        self._prepared = prepared
        self._device = placement.device.type

    def run(self, missing: Sequence[Work], sink: Sink) -> list[str]:
        """Computes the cells in shards on workers, longest cells first."""
        if not missing:
            return []
        attacks = {attack.name: attack for attack in self._plan.attacks}
        largest = CUDA_SHARD if self._device == "cuda" else SHARD
        with self._open() as (worker_pool, workers):
            shards = make_shards(missing, attacks, workers, largest)
            totals = {work.cell: len(work.examples) for work in missing}
            graders = {name: grader_for(task) for name, task in self._prepared.tasks.items()}
            return Dispatcher(worker_pool, sink, totals, graders).run(shards, workers)

    @contextmanager
    def _open(self) -> Iterator[tuple[WorkerPool, int]]:
        execution = self._execution
        if execution.executor == RAY:
            on_gpus = self._device == "cuda"
            with open_crew(execution.ray_address, execution.workers, on_gpus=on_gpus, pack=self._pack) as opened:
                yield opened
            return
        workers = execution.workers or 1
        devices = _visible_devices() if self._device == "cuda" else []
        threads = max(1, torch.get_num_threads() // workers)
        yield Processes(self._pack(threads), devices, threads), workers

    def _pack(self, threads: int) -> bytes:
        elsewhere = self._execution.executor == RAY
        return pack_worker_spec(
            self._plan, self._prepared, device=self._device, threads=threads, check_weights=elsewhere
        )


def _visible_devices() -> list[str]:
    """The entries for CUDA_VISIBLE_DEVICES, from this process's GPUs."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [each.strip() for each in named.split(",")]
    return [str(number) for number in range(torch.cuda.device_count())]
