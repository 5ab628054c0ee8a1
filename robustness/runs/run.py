"""Runs a plan: the gate first, then its jobs, here or on workers; resumes an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from robustness.errors import RunError
from robustness.progress import ProgressCallback
from robustness.runs.executors.bench import RunBench
from robustness.runs.executors.definitions import PlannedDefinitions
from robustness.runs.executors.schedule import Schedule
from robustness.runs.executors.shards import CUDA_SHARD, SHARD, Cutting
from robustness.runs.executors.spec import check_execution, describe_run
from robustness.runs.opening import opened
from robustness.runs.planning.loads import expect_loads
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.sanity_checks import run_sanity_checks
from robustness.runs.storage.disk import explain_failed_writes
from robustness.runs.storage.measurements import MeasurementStore
from robustness.runs.storage.record import read_record, update_record
from robustness.runs.storage.store import Store
from robustness.runs.victim_loader import VictimLoader
from robustness.runs.workload import Workload
from robustness.victims.isolation import VictimGoneError
from robustness.victims.loading import Placement, place
from robustness.workers.execution import RAY, Execution
from robustness.workers.pool import compute_here, open_workers


def execute(
    plan: Plan, out: Path, on_progress: ProgressCallback | None = None, execution: Execution | None = None
) -> None:
    """Runs the missing parts of a plan and stores their results.

    `execution` decides where they are computed, by default in this process. Only this process writes the run folder.

    Raises:
        RobustnessError: bad input, all pairs refused by the gate, or a folder of another run. Nothing is written
            before the gate has passed.
    """
    report = on_progress or (lambda _: None)
    execution = execution or Execution()
    placement = place(plan.settings.device, plan.settings.dtype)
    check_execution(execution, plan, placement)
    with (
        explain_failed_writes(out),
        opened(plan, out, placement, report) as prepared,
        _open_stores(prepared.plan, out) as (store, measurements),
    ):
        schedule = Schedule(prepared, store, measurements, Workload(expect_loads(prepared), report), out)
        doubts: list[str] = []
        try:
            _compute(schedule, prepared, placement, execution, doubts)
        except BaseException:
            with suppress(Exception):  # the first error is the important one
                gaps = (*read_record(out).suspicions, *schedule.gaps)  # not all has been looked at
                _write_warnings(out, prepared.plan, store, doubts, gaps)
            raise
        _write_warnings(out, prepared.plan, store, doubts, schedule.gaps)


def _compute(
    schedule: Schedule, prepared: Prepared, placement: Placement, execution: Execution, doubts: list[str]
) -> None:
    """Computes all jobs, in the plan's order in this process, or the costliest first on workers; adds its doubts."""
    if execution.is_in_process:
        with _open_bench(prepared, placement, doubts) as bench:
            compute_here(schedule.book(None), bench)
        return
    elsewhere = execution.executor == RAY
    spec = describe_run(prepared.plan, prepared, device=placement.device.type, check_weights=elsewhere)
    largest = CUDA_SHARD if placement.device.type == "cuda" else SHARD
    with open_workers(spec, execution, placement.device) as dispatcher:
        doubts += dispatcher.run(schedule.book(Cutting(dispatcher.workers, largest)))


@contextmanager
def _open_bench(prepared: Prepared, placement: Placement, doubts: list[str]) -> Iterator[RunBench]:
    """Yields the bench of this process; adds its doubts in the end."""
    plan = prepared.plan
    settings = plan.settings
    victims = VictimLoader(
        prepared.checkpoints, prepared.tasks, placement, compile=settings.compile, cache=settings.cache
    )
    bench = RunBench(victims, PlannedDefinitions(plan), seed=settings.seed, resources=settings.resources)
    try:
        yield bench
    except VictimGoneError as error:
        raise RunError(
            f"{error}; the checkpoint, its device or the attack is at fault, not an example: mend it, and the same "
            "command resumes this run"
        ) from error
    finally:
        doubts += bench.doubts()
        victims.close()


@contextmanager
def _open_stores(plan: Plan, out: Path) -> Iterator[tuple[Store, MeasurementStore | None]]:
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(out)))
        yield store, stack.enter_context(closing(MeasurementStore(out))) if plan.probe_cells else None


def _write_warnings(out: Path, plan: Plan, store: Store, doubts: Sequence[str], gaps: Sequence[str]) -> None:
    """Keeps warnings of earlier processes, but drops suspicions and gaps of which the cause is mended."""
    record = read_record(out)
    labelled = [testset.name for testset in record.testsets if testset.labels]
    suspicions = tuple(dict.fromkeys([*gaps, *run_sanity_checks(store, plan.attacks, labelled)]))
    kept = [warning for warning in record.warnings if warning not in record.suspicions]
    update_record(out, warnings=tuple(dict.fromkeys([*kept, *doubts, *suspicions])), suspicions=suspicions)
