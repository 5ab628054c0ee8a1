"""Running a plan: gate first, then cell by cell, resuming where an earlier run stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from robustness.definitions.tasks import Task, find_task
from robustness.engine.attack import NamedAttack
from robustness.engine.evaluation import evaluate_examples
from robustness.engine.outcome import Outcome, Status
from robustness.engine.scheduler import Scheduler
from robustness.runs.plan import Cell, Plan
from robustness.runs.preparation import Prepared, gate_pairs, prepare
from robustness.runs.progress import Progress, ProgressCallback
from robustness.runs.record import (
    FILE_NAME,
    read_record,
    refuse_foreign_folder,
    refuse_other_settings,
    write_record,
)
from robustness.runs.store import Store
from robustness.testsets.example import Example
from robustness.victims.loading import Placement, load_checkpoint, place, to_victim
from robustness.victims.victim import Victim

FLUSH_SECONDS = 0.5
"""Outcomes wait at most so long, and never past their cell, before they are durable."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run left behind."""

    folder: Path
    n_outcomes: int
    """Rows written by this call; 0 when everything was there already."""
    n_errored: int
    """Errored rows in the whole folder."""


def execute(plan: Plan, out: Path, on_progress: ProgressCallback | None = None) -> RunSummary:
    """Runs what is missing of a plan and stores every outcome.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, or a folder that holds another run. Nothing is
            written before the gate has passed.
    """
    report = on_progress or (lambda _: None)
    placement = place(plan.settings.device, plan.settings.dtype)
    refuse_foreign_folder(out)
    prepared = prepare(plan)
    refuse_other_settings(out, prepared.fingerprint)
    total = sum(len(prepared.examples[cell.testset]) for cell in plan.cells)
    report(Progress("checking the pairs", 0, total))
    record = gate_pairs(plan, prepared, placement)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / FILE_NAME).is_file():
        write_record(out, record)
    store = Store(out)
    try:
        return _run_cells(plan, prepared, placement, _Sink(out, store, report, total))
    finally:
        store.close()


class _Sink:
    """Where outcomes go: to the store in small transactions, to the progress callback by their number."""

    def __init__(self, folder: Path, store: Store, report: ProgressCallback, total: int) -> None:
        self.folder = folder
        self.store = store
        self.written = 0
        self._report = report
        self._done = 0
        self._total = total

    def skip(self, count: int) -> None:
        """Counts outcomes that an earlier run stored."""
        self._done += count

    def write(self, cell: Cell, outcomes: Iterable[Outcome]) -> None:
        message = f"{cell.checkpoint} | {cell.testset} | {cell.attack}"
        self._report(Progress(message, self._done, self._total))
        waiting: list[Outcome] = []
        flushed = time.monotonic()
        for outcome in outcomes:
            waiting.append(outcome)
            if time.monotonic() - flushed >= FLUSH_SECONDS:
                self._flush(cell, waiting, message)
                flushed = time.monotonic()
        self._flush(cell, waiting, message)

    def _flush(self, cell: Cell, waiting: list[Outcome], message: str) -> None:
        self.store.add(cell, waiting)
        self.written += len(waiting)
        self._done += len(waiting)
        waiting.clear()
        self._report(Progress(message, self._done, self._total))


def _run_cells(plan: Plan, prepared: Prepared, placement: Placement, sink: _Sink) -> RunSummary:
    attacks = {attack.name: attack for attack in plan.attacks}
    warnings: list[str] = []
    for checkpoint, cells in groupby(plan.cells, key=lambda cell: cell.checkpoint):
        missing = []
        for cell in cells:
            finished = sink.store.finished(cell)
            sink.skip(len(finished))
            examples = [e for e in prepared.examples[cell.testset] if e.id not in finished]
            if examples:
                missing.append((cell, examples))
        if not missing:
            continue
        task = find_task(prepared.tasks[checkpoint])
        victim = _load(prepared, checkpoint, task, placement)
        for cell, examples in missing:
            sink.write(cell, _outcomes(victim, attacks.get(cell.attack), examples, plan.settings.seed))
        if victim.truncated:
            warnings.append(
                f"{checkpoint}: {len(victim.truncated)} texts are longer than the {victim.max_tokens} tokens the "
                "model takes; they were truncated"
            )
    record = read_record(sink.folder)
    statuses = sink.store.count_statuses()
    warnings += _suspicions(statuses)
    new = tuple(dict.fromkeys([*record.warnings, *warnings]))
    if new != record.warnings:
        write_record(sink.folder, record.model_copy(update={"warnings": new}))
    errored = sum(count for (_, status), count in statuses.items() if status == Status.ERRORED)
    return RunSummary(sink.folder, sink.written, errored)


def _load(prepared: Prepared, name: str, task: Task, placement: Placement) -> Victim:
    return to_victim(load_checkpoint(prepared.checkpoints[name], task), placement)


def _outcomes(
    victim: Victim, attack: NamedAttack | None, examples: Sequence[Example], seed: int
) -> Iterator[Outcome]:
    if attack is None:
        return evaluate_examples(victim, examples)
    return Scheduler(attack, victim, seed=seed).run(examples)


def _suspicions(statuses: dict[tuple[str, str], int]) -> list[str]:
    if statuses.get(("identity", Status.SUCCEEDED)):
        return ["identity: an unchanged text was judged adversarial; the victim's answers are not deterministic"]
    return []
