"""Opens the folder of a run: existing content must be of the same run, and the gate must pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from robustness.engine.query_cache import QueryCache
from robustness.paths import refuse_unwritable
from robustness.progress import CellProgress, Progress, ProgressCallback
from robustness.runs.planning.loads import expect_loads
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared, gate_pairs, prepare
from robustness.runs.storage.lock import hold_lock
from robustness.runs.storage.record import (
    FILE_NAME,
    read_record,
    refuse_foreign_folder,
    refuse_other_settings,
    write_record,
)
from robustness.runs.workload import CHECKING, count_steps
from robustness.victims.loading import Placement


@contextmanager
def opened(plan: Plan, out: Path, placement: Placement, report: ProgressCallback) -> Iterator[Prepared]:
    """Yields the prepared run without refused pairs, and holds the folder's lock.

    Raises:
        RobustnessError: bad input, all pairs refused by the gate, or a folder of another run. Nothing is written
            before the gate has passed.
    """
    refuse_unwritable(out)
    if plan.settings.cache is not None:
        refuse_unwritable(plan.settings.cache, "--cache")
    refuse_foreign_folder(out)
    with ExitStack() as stack:
        is_new = not (out / FILE_NAME).is_file()
        if not is_new:  # finds another process before reading data and checkpoints
            stack.enter_context(hold_lock(out))
        prepared = prepare(plan)
        refuse_other_settings(out, prepared.fingerprint | {"device": placement.device.type})
        if plan.settings.cache is not None:
            QueryCache(plan.settings.cache, "").close()  # finds an invalid cache file before the gate's minutes
        if is_new:  # otherwise the gate has passed for these checkpoints
            steps = count_steps(expect_loads(prepared).values())
            report(Progress(CHECKING, 0, steps))

            def tell(name: str, done: int, total: int) -> None:
                report(Progress(f"{name} | {CHECKING}", 0, steps, CellProgress(done, total)))

            record = gate_pairs(prepared, placement, tell)
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_lock(out))
            refuse_foreign_folder(out)
            refuse_other_settings(out, record.fingerprint)  # written by another process meanwhile
            if not (out / FILE_NAME).is_file():
                write_record(out, record)
        refused = {pair.name for pair in read_record(out).refused}
        yield replace(prepared, plan=prepared.plan.without(refused))
