"""Running a plan: gate first, then cell by cell, resuming where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from itertools import groupby
from pathlib import Path

from robustness.engine.query_cache import QueryCache
from robustness.errors import RobustnessError, RunError, first_line
from robustness.paths import refuse_unwritable
from robustness.runs.arms import Arms
from robustness.runs.attacked_rows import count_attacked, describe_shortage, find_attacked
from robustness.runs.cells import NO_ATTACK
from robustness.runs.execution import Execution
from robustness.runs.executors.executor import Executor, Work
from robustness.runs.executors.local import LocalExecutor
from robustness.runs.executors.pool import PoolExecutor, check_execution
from robustness.runs.generation import complete_set
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared, gate_pairs, prepare
from robustness.runs.probing import run_probes
from robustness.runs.progress import Progress, ProgressCallback
from robustness.runs.replay import replay_missing
from robustness.runs.sanity_checks import run_sanity_checks
from robustness.runs.storage.disk import explain_failed_writes
from robustness.runs.storage.lock import hold_lock
from robustness.runs.storage.record import (
    FILE_NAME,
    read_record,
    refuse_foreign_folder,
    refuse_other_settings,
    write_record,
)
from robustness.runs.storage.sink import Sink
from robustness.runs.storage.store import Store
from robustness.victims.loading import place


def execute(
    plan: Plan, out: Path, on_progress: ProgressCallback | None = None, execution: Execution | None = None
) -> None:
    """Runs what is missing of a plan and stores every outcome, then replays what broke one arm on the other.

    Cells are computed where `execution` says, by default here; this process alone writes the store, searches
    generated test sets, replays and probes.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, or a folder that holds another run. Nothing is
            written before the gate has passed.
    """
    report = on_progress or (lambda _: None)
    execution = execution or Execution()
    placement = place(plan.settings.device, plan.settings.dtype)
    check_execution(execution, plan, placement)
    refuse_unwritable(out)
    if plan.settings.cache is not None:
        refuse_unwritable(plan.settings.cache, "--cache")
    refuse_foreign_folder(out)
    with explain_failed_writes(out), ExitStack() as stack:
        is_new = not (out / FILE_NAME).is_file()
        if not is_new:  # another process is found before data and checkpoints are read
            stack.enter_context(hold_lock(out))
        prepared = prepare(plan)
        plan = prepared.plan
        refuse_other_settings(out, prepared.fingerprint | {"device": placement.device.type})
        if plan.settings.cache is not None:
            QueryCache(plan.settings.cache, "").close()  # a file that is no cache is found before the gate's minutes
        total = _count_rows(plan, prepared)
        if is_new:  # otherwise the gate has passed for these very checkpoints
            report(Progress("checking the pairs", 0, total))
            record = gate_pairs(prepared, placement)
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_lock(out))
            refuse_foreign_folder(out)
            refuse_other_settings(out, record.fingerprint)  # of a process that was here meanwhile
            if not (out / FILE_NAME).is_file():
                write_record(out, record)
        plan = plan.without({pair.name for pair in read_record(out).refused})
        arms = Arms(
            prepared.checkpoints,
            prepared.tasks,
            placement,
            compile=plan.settings.compile,
            cache=plan.settings.cache,
        )
        executor = (
            LocalExecutor(arms, plan.attacks, plan.settings.seed)
            if execution.is_in_process
            else PoolExecutor(execution, plan, prepared, placement)
        )
        _run_missing(plan, prepared, arms, executor, out, report)


def _run_missing(
    plan: Plan, prepared: Prepared, arms: Arms, executor: Executor, out: Path, report: ProgressCallback
) -> None:
    store = Store(out)
    doubts: list[str] = []
    try:
        sink = Sink(store, report, _count_rows(plan, prepared))
        for stage in _stages(plan, prepared, store, out, doubts):
            missing = _find_missing(stage, sink)
            missing = list(_complete_generated(prepared, missing, arms, out, sink.announce))
            doubts += executor.run(missing, sink) if missing else []
        replay_missing(plan, store, arms.load_scorer, arms.load_untuned, prepared.examples, sink.announce)
        run_probes(plan, prepared, out, arms.load_victim, sink.announce)
        _write_warnings(out, plan, store, [*arms.warnings(), *doubts])
    except BaseException:
        with suppress(Exception):  # what ended the run is what its user has to know
            _write_warnings(out, plan, store, [*arms.warnings(), *doubts])
        raise
    finally:
        arms.close()
        store.close()


def _count_rows(plan: Plan, prepared: Prepared) -> int:
    """The outcomes of a whole run, at most."""
    most = float("inf") if plan.attacked is None else plan.attacked
    sizes = {name: len(rows) for name, rows in prepared.examples.items()}
    return sum(int(min(sizes[c.testset], float("inf") if c.attack == NO_ATTACK else most)) for c in plan.cells)


def _stages(plan: Plan, prepared: Prepared, store: Store, out: Path, doubts: list[str]) -> Iterator[list[Work]]:
    """All cells with their rows, at once or, where only rows that both arms have right are attacked, in two parts."""
    everything = [Work(cell, prepared.examples[cell.testset]) for cell in plan.cells]
    if plan.attacked is None:
        yield everything
        return
    yield [work for work in everything if work.cell.attack == NO_ATTACK]
    chosen = find_attacked(plan, prepared, store, plan.attacked)
    write_record(out, read_record(out).model_copy(update={"chosen": count_attacked(chosen)}))
    doubts += describe_shortage(chosen, plan, plan.attacked)
    yield [
        Work(cell, tuple(row for row in rows if row.id in chosen[cell.checkpoint, cell.testset]))
        for cell, rows in ((work.cell, work.examples) for work in everything)
        if cell.attack != NO_ATTACK
    ]


def _find_missing(stage: Sequence[Work], sink: Sink) -> list[Work]:
    """The cells with examples that have no outcome yet."""
    missing = []
    for work in stage:
        finished = sink.finished(work.cell)
        sink.skip(len(finished))
        examples = tuple(example for example in work.examples if example.id not in finished)
        if examples:
            missing.append(Work(work.cell, examples))
    return missing


def _complete_generated(
    prepared: Prepared, missing: Sequence[Work], arms: Arms, out: Path, announce: Callable[[str], None]
) -> Iterator[Work]:
    """Searches the distractors of test sets that are made for one checkpoint."""
    generated = {testset.name: testset.generated for testset in prepared.testsets if testset.generated is not None}
    for checkpoint, cells in groupby(missing, key=lambda work: work.cell.checkpoint):
        load = cache(lambda name=checkpoint: arms.load(name)[0])
        for work in cells:
            testset = work.cell.testset
            if testset not in generated:
                yield work
                continue
            announce(f"{checkpoint} | {testset} | searching distractors")
            try:
                whole = complete_set(load(), work.cell, prepared.examples[testset], generated[testset], out)
            except RobustnessError:
                raise
            except Exception as error:  # memory that runs out, or whatever a model raises at a paragraph
                raise RunError(
                    f"{checkpoint} | {testset}: the search for distractors failed: {type(error).__name__}: "
                    f"{first_line(error)}; what it has found is kept, and the same command goes on"
                ) from error
            wanted = {example.id for example in work.examples}
            yield Work(work.cell, tuple(example for example in whole if example.id in wanted))


def _write_warnings(out: Path, plan: Plan, store: Store, doubts: Sequence[str]) -> None:
    """Doubts of earlier processes stay; suspicions that the outcomes no longer bear out go."""
    record = read_record(out)
    labelled = [testset.name for testset in record.testsets if testset.labels]
    suspicions = tuple(run_sanity_checks(store, plan.attacks, labelled))
    kept = [warning for warning in record.warnings if warning not in record.suspicions]
    new = record.model_copy(
        update={"warnings": tuple(dict.fromkeys([*kept, *doubts, *suspicions])), "suspicions": suspicions}
    )
    if new != record:
        write_record(out, new)
