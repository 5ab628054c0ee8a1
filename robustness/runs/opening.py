"""The folder of a run, opened: what is there must be of this very run, and the gate has passed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from robustness.engine.query_cache import QueryCache
from robustness.paths import refuse_unwritable
from robustness.runs.planning.loads import expect_loads
from robustness.runs.planning.plan import Plan
from robustness.runs.preparation import Prepared, gate_pairs, prepare
from robustness.runs.progress import Progress, ProgressCallback
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
    """Yields what a run is of, without the pairs that the gate has refused, and holds the folder's lock.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, or a folder that holds another run. Nothing is
            written before the gate has passed.
    """
    refuse_unwritable(out)
    if plan.settings.cache is not None:
        refuse_unwritable(plan.settings.cache, "--cache")
    refuse_foreign_folder(out)
    with ExitStack() as stack:
        is_new = not (out / FILE_NAME).is_file()
        if not is_new:  # another process is found before data and checkpoints are read
            stack.enter_context(hold_lock(out))
        prepared = prepare(plan)
        refuse_other_settings(out, prepared.fingerprint | {"device": placement.device.type})
        if plan.settings.cache is not None:
            QueryCache(plan.settings.cache, "").close()  # a file that is no cache is found before the gate's minutes
        if is_new:  # otherwise the gate has passed for these very checkpoints
            report(Progress(CHECKING, 0, count_steps(expect_loads(prepared).values())))
            record = gate_pairs(prepared, placement)
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_lock(out))
            refuse_foreign_folder(out)
            refuse_other_settings(out, record.fingerprint)  # of a process that was here meanwhile
            if not (out / FILE_NAME).is_file():
                write_record(out, record)
        refused = {pair.name for pair in read_record(out).refused}
        yield replace(prepared, plan=prepared.plan.without(refused))
