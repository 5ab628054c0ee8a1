"""The executor with workers: processes of this machine, or actors of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from robustness.errors import UsageError
from robustness.runs.executors.bench import describe_run, references
from robustness.runs.executors.executor import Work
from robustness.runs.executors.outcomes import OpenCells, ShardBooking
from robustness.runs.executors.shards import CUDA_SHARD, SHARD, make_shards
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.storage.sink import Sink
from robustness.tasks.graders import grader_for
from robustness.victims.loading import Placement
from robustness.workers.execution import RAY, Execution
from robustness.workers.pool import check_workers, open_workers


def check_execution(execution: Execution, plan: Plan, placement: Placement) -> None:
    """Checks, before reading anything, that the requested workers are available.

    Raises:
        UsageError: what `check_workers` raises, machines would share a query cache, or an attack object cannot be
            pickled.
    """
    if execution.is_in_process:
        return
    references(plan)
    if execution.executor == RAY and plan.settings.cache is not None:
        raise UsageError(
            f"--cache {plan.settings.cache}: is one SQLite file, which machines cannot share; leave it out, "
            "or use --executor local --workers N"
        )
    check_workers(execution, placement.device)


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
        self._device = placement.device

    def run(self, missing: Sequence[Work], sink: Sink) -> list[str]:
        """Computes the cells in shards on workers, longest cells first."""
        if not missing:
            return []
        attacks = {attack.name: attack for attack in self._plan.attacks}
        largest = CUDA_SHARD if self._device.type == "cuda" else SHARD
        totals = {work.cell: len(work.examples) for work in missing}
        graders = {name: grader_for(task) for name, task in self._prepared.tasks.items()}
        cells = OpenCells(sink, totals, graders)
        spec = describe_run(
            self._plan, self._prepared, device=self._device.type, check_weights=self._execution.executor == RAY
        )
        with open_workers(spec, self._execution, self._device) as dispatcher:
            shards = make_shards(missing, attacks, dispatcher.workers, largest)
            return dispatcher.run([ShardBooking(shard, cells) for shard in shards])
