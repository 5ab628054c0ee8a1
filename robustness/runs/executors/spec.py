"""The description of a run from which a worker builds its bench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from robustness.errors import UsageError
from robustness.quiet import quieten_libraries
from robustness.runs.executors.bench import RunBench
from robustness.runs.executors.definitions import FoundDefinitions, References, refer
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.victim_loader import VictimLoader
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.loading import Placement, place
from robustness.workers.execution import RAY, Execution
from robustness.workers.pool import check_workers


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A worker's description of a run; paths are absolute."""

    checkpoints: Mapping[str, Checkpoint]
    tasks: Mapping[str, Task]
    weights: Mapping[Path, str]
    """Digests of the weights of checkpoints and bases, by folder, if workers read another machine's file system."""
    references: References
    seed: int
    dtype: str
    compile: bool
    cache: Path | None

    def build(self, threads: int) -> RunBench:
        """Returns the bench; raises an error if the device does not compute."""
        torch.set_num_threads(threads)
        quieten_libraries()
        resources = self.references.resources
        placement = place(resources.device, self.dtype)
        torch.ones(1, device=placement.device).sum().item()  # finds a broken GPU before it gets work
        victims = VictimLoader(self.checkpoints, self.tasks, placement, compile=self.compile, cache=self.cache)
        definitions = FoundDefinitions(self.references)
        return RunBench(victims, definitions, seed=self.seed, resources=resources, weights=self.weights)


def describe_run(plan: Plan, prepared: Prepared, *, device: str, check_weights: bool) -> RunSpec:
    """Returns what a worker needs to know of a run.

    Args:
        plan: of the run.
        prepared: its checkpoints.
        device: cpu or cuda.
        check_weights: whether workers compare their view of the weights with the driver's.

    Raises:
        UsageError: an attack or a probe given as an object cannot be pickled.
    """
    settings = plan.settings
    return RunSpec(
        checkpoints=prepared.checkpoints,
        tasks=prepared.tasks,
        weights=_digests_by_folder(prepared) if check_weights else {},
        references=refer(plan, settings.resources.on(device)),
        seed=settings.seed,
        dtype=settings.dtype,
        compile=settings.compile,
        cache=None if settings.cache is None else settings.cache.resolve(),
    )


def _digests_by_folder(prepared: Prepared) -> dict[Path, str]:
    weights: dict[Path, str] = {}
    for name, checkpoint in prepared.checkpoints.items():
        weights[checkpoint.folder] = prepared.weights_digests[name]
        weights[checkpoint.base] = prepared.base_digests[name]
    return weights


def check_execution(execution: Execution, plan: Plan, placement: Placement) -> None:
    """Checks, before reading anything, that the requested workers are available.

    Raises:
        UsageError: what `check_workers` raises, machines would share a query cache, or an object given as attack or
            probe cannot be pickled.
    """
    if execution.is_in_process:
        return
    refer(plan, plan.settings.resources)
    if execution.executor == RAY and plan.settings.cache is not None:
        raise UsageError(
            f"--cache {plan.settings.cache}: is one SQLite file, which machines cannot share; leave it out, "
            "or use --executor local --workers N"
        )
    check_workers(execution, placement.device)
