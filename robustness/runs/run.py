"""Runs a plan: the gate first, then cell by cell; resumes an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from robustness.runs.arms import Arms
from robustness.runs.attacked_rows import stages
from robustness.runs.executors.executor import Executor, Work
from robustness.runs.executors.local import LocalExecutor
from robustness.runs.executors.pool import PoolExecutor, check_execution
from robustness.runs.generation import complete_missing
from robustness.runs.opening import opened
from robustness.runs.planning.loads import expect_loads
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared
from robustness.runs.probing import run_probes
from robustness.runs.progress import ProgressCallback
from robustness.runs.replay import replay_missing
from robustness.runs.sanity_checks import run_sanity_checks
from robustness.runs.storage.disk import explain_failed_writes
from robustness.runs.storage.record import read_record, write_record
from robustness.runs.storage.sink import Sink
from robustness.runs.storage.store import Store
from robustness.runs.workload import DistractorSearch, Workload
from robustness.victims.loading import place
from robustness.workers.execution import Execution


def execute(
    plan: Plan, out: Path, on_progress: ProgressCallback | None = None, execution: Execution | None = None
) -> None:
    """Runs the missing parts of a plan and stores every outcome, then replays successes on the other arm.

    `execution` decides where cells are computed, by default in this process. Only this process writes the store,
    searches generated test sets, replays and probes.

    Raises:
        RobustnessError: bad input, all pairs refused by the gate, or a folder of another run. Nothing is written
            before the gate has passed.
    """
    report = on_progress or (lambda _: None)
    execution = execution or Execution()
    placement = place(plan.settings.device, plan.settings.dtype)
    check_execution(execution, plan, placement)
    with explain_failed_writes(out), opened(plan, out, placement, report) as prepared:
        settings = prepared.plan.settings
        arms = Arms(prepared.checkpoints, prepared.tasks, placement, compile=settings.compile, cache=settings.cache)
        executor = (
            LocalExecutor(arms, prepared.plan.attacks, settings.seed)
            if execution.is_in_process
            else PoolExecutor(execution, prepared.plan, prepared, placement)
        )
        _run_missing(prepared, arms, executor, out, report)


def _run_missing(prepared: Prepared, arms: Arms, executor: Executor, out: Path, report: ProgressCallback) -> None:
    plan, examples = prepared.plan, prepared.examples
    store = Store(out)
    doubts: list[str] = []
    try:
        workload = Workload(expect_loads(prepared), report)
        sink = Sink(store, workload)
        for stage in stages(prepared, store, out, doubts):
            missing = _find_missing(stage, sink, workload)
            missing = list(complete_missing(prepared, missing, arms, out, workload))
            doubts += executor.run(missing, sink) if missing else []
        replay_missing(plan, store, arms.load_scorer, arms.load_untuned, examples, workload)
        run_probes(plan, prepared, out, arms.load_victim, workload)
        _write_warnings(out, plan, store, [*arms.warnings(), *doubts])
    except BaseException:
        with suppress(Exception):  # the first error is the important one
            _write_warnings(out, plan, store, [*arms.warnings(), *doubts])
        raise
    finally:
        arms.close()
        store.close()


def _find_missing(stage: Sequence[Work], sink: Sink, workload: Workload) -> list[Work]:
    """The cells with examples without outcomes."""
    missing = []
    for work in stage:
        finished = sink.finished(work.cell)
        workload.expect(work.cell, len(work.examples))
        workload.skip(work.cell, len(finished))
        examples = tuple(example for example in work.examples if example.id not in finished)
        if examples:
            missing.append(Work(work.cell, examples))
        else:
            workload.skip(DistractorSearch(work.cell.checkpoint, work.cell.testset))
    return missing


def _write_warnings(out: Path, plan: Plan, store: Store, doubts: Sequence[str]) -> None:
    """Keeps warnings of earlier processes, but drops suspicions that the outcomes no longer support."""
    record = read_record(out)
    labelled = [testset.name for testset in record.testsets if testset.labels]
    suspicions = tuple(run_sanity_checks(store, plan.attacks, labelled))
    kept = [warning for warning in record.warnings if warning not in record.suspicions]
    new = record.model_copy(
        update={"warnings": tuple(dict.fromkeys([*kept, *doubts, *suspicions])), "suspicions": suspicions}
    )
    if new != record:
        write_record(out, new)
