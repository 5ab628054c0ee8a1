"""Running a plan: gate first, then cell by cell, resuming where an earlier run stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from robustness.definitions.tasks import find_task
from robustness.engine.answers import evaluate_answers
from robustness.engine.attack import AnswerAttack, GradientAttack, NamedAttack, Scorer
from robustness.engine.evaluation import evaluate_examples
from robustness.engine.outcome import Outcome
from robustness.engine.query_cache import QueryCache
from robustness.engine.scheduler import CUDA_WIDTH, WIDTH, Scheduler
from robustness.errors import UsageError
from robustness.runs.disk import explain_failed_writes
from robustness.runs.generation import complete_set
from robustness.runs.lock import hold_lock
from robustness.runs.plan import Cell, Plan
from robustness.runs.preparation import Prepared, gate_pairs, prepare
from robustness.runs.probing import run_probes
from robustness.runs.progress import Meter, Progress, ProgressCallback
from robustness.runs.record import (
    FILE_NAME,
    read_record,
    refuse_foreign_folder,
    refuse_other_settings,
    write_record,
)
from robustness.runs.replay import replay_missing
from robustness.runs.store import Store
from robustness.runs.suspicions import find_suspicions
from robustness.testsets.example import Example
from robustness.victims.answering import AnsweringVictim
from robustness.victims.kinds import AnyVictim
from robustness.victims.loading import (
    Placement,
    digest_victim,
    load_checkpoint,
    place,
    to_untuned_victim,
    to_victim,
)
from robustness.victims.victim import Victim

FLUSH_SECONDS = 0.5
"""Outcomes wait at most so long, and never past their cell, before they are durable."""


def execute(plan: Plan, out: Path, on_progress: ProgressCallback | None = None) -> None:
    """Runs what is missing of a plan and stores every outcome, then replays what broke one arm on the other.

    Raises:
        RobustnessError: bad input, a pair the gate refuses, or a folder that holds another run. Nothing is
            written before the gate has passed.
    """
    report = on_progress or (lambda _: None)
    placement = place(plan.settings.device, plan.settings.dtype)
    refuse_foreign_folder(out)
    with explain_failed_writes(out), ExitStack() as stack:
        is_new = not (out / FILE_NAME).is_file()
        if not is_new:  # another process is found before data and checkpoints are read
            stack.enter_context(hold_lock(out))
        prepared = prepare(plan)
        refuse_other_settings(out, prepared.fingerprint | {"device": placement.device.type})
        if plan.settings.cache is not None:
            QueryCache(plan.settings.cache, "").close()  # a file that is no cache is found before the gate's minutes
        total = sum(len(prepared.examples[cell.testset]) for cell in plan.cells)
        if is_new:  # otherwise the gate has passed for these very checkpoints
            report(Progress("checking the pairs", 0, total))
            record = gate_pairs(plan, prepared, placement)
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold_lock(out))
            refuse_foreign_folder(out)
            refuse_other_settings(out, record.fingerprint)  # of a process that was here meanwhile
            if not (out / FILE_NAME).is_file():
                write_record(out, record)
        _run_missing(plan, prepared, _Arms(plan, prepared, placement), out, report)


def _run_missing(plan: Plan, prepared: Prepared, arms: _Arms, out: Path, report: ProgressCallback) -> None:
    total = sum(len(prepared.examples[cell.testset]) for cell in plan.cells)
    store = Store(out)
    try:
        sink = _Sink(store, report, total)
        _run_cells(plan, prepared, arms, sink, out)
        replay_missing(plan, store, arms.load_scorer, arms.load_untuned, prepared.examples, sink.announce)
        run_probes(plan, prepared, out, arms.load_victim, sink.announce)
        _add_warnings(out, [*arms.warnings(), *find_suspicions(store, plan.attacks)])
    finally:
        arms.close()
        store.close()


class _Arms:
    """Loads checkpoints as the settings say, each with its part of the query cache."""

    def __init__(self, plan: Plan, prepared: Prepared, placement: Placement) -> None:
        self._settings = plan.settings
        self._prepared = prepared
        self._placement = placement
        self._caches: list[QueryCache] = []
        self._failures: list[str] = []

    def load(self, name: str) -> tuple[AnyVictim, QueryCache | None]:
        """Returns the victim, and what it has been asked before if the run has a query cache."""
        checkpoint = self._prepared.checkpoints[name]
        victim = to_victim(load_checkpoint(checkpoint, find_task(self._prepared.tasks[name])), self._placement)
        if not isinstance(victim, Victim):  # no search asks the others text by text
            return victim, None
        if self._settings.compile:
            victim.compile()
            self._failures += [f"{name}: {victim.compile_failure}"] if victim.compile_failure else []
        if self._settings.cache is None:
            return victim, None
        cache = QueryCache(self._settings.cache, digest_victim(checkpoint, victim))
        self._caches.append(cache)
        return victim, cache

    def load_victim(self, name: str) -> AnyVictim:
        """Returns the victim alone."""
        return self.load(name)[0]

    def load_scorer(self, name: str) -> Scorer | AnsweringVictim:
        """Returns the victim behind its query cache, if there is one."""
        victim, cache = self.load(name)
        return cache.in_front_of(victim) if cache is not None and isinstance(victim, Victim) else victim

    def load_untuned(self, name: str) -> AnyVictim | None:
        """Returns the untuned base under the checkpoint's head, where there is such a model."""
        checkpoint = self._prepared.checkpoints[name]
        return to_untuned_victim(load_checkpoint(checkpoint, find_task(self._prepared.tasks[name])), self._placement)

    def close(self) -> None:
        """Closes the query caches."""
        for cache in self._caches:
            cache.close()

    def warnings(self) -> list[str]:
        """Returns what is doubtful about the victims and their caches."""
        return [*self._failures, *(warning for cache in self._caches for warning in cache.warnings())]


class _Sink:
    """Where outcomes go: to the store in small transactions, to the progress callback by their number."""

    def __init__(self, store: Store, report: ProgressCallback, total: int) -> None:
        self.store = store
        self._report = report
        self._done = 0
        self._total = total
        self._meter = Meter()
        self._noted: dict[str, int] = {}
        """By checkpoint, how many texts are known to be too long."""

    def skip(self, count: int) -> None:
        """Counts outcomes that an earlier run stored."""
        self._done += count

    def announce(self, message: str) -> None:
        """Says what runs now."""
        self._report(Progress(message, self._done, self._total))

    def write(self, cell: Cell, outcomes: Iterable[Outcome], count: int, truncated: set[str]) -> None:
        """Writes `count` outcomes as they come, and what was too long; what has come before an error is kept."""
        message = f"{cell.checkpoint} | {cell.testset} | {cell.attack}"
        self._meter.start(cell.checkpoint, cell.testset, cell.attack, count)
        self._tell(message)
        waiting: list[Outcome] = []
        flushed = time.monotonic()
        try:
            for outcome in outcomes:
                waiting.append(outcome)
                if time.monotonic() - flushed >= FLUSH_SECONDS:
                    self._flush(cell, waiting, truncated, message)
                    flushed = time.monotonic()
        finally:
            self._flush(cell, waiting, truncated, message)

    def _flush(self, cell: Cell, waiting: list[Outcome], truncated: set[str], message: str) -> None:
        if len(truncated) > self._noted.get(cell.checkpoint, 0):  # before the outcomes: these are never made again
            self.store.note_truncated(cell.checkpoint, truncated)
            self._noted[cell.checkpoint] = len(truncated)
        self.store.add(cell, waiting)
        self._done += len(waiting)
        self._meter.add(waiting)
        waiting.clear()
        self._tell(message)

    def _tell(self, message: str) -> None:
        self._report(Progress(message, self._done, self._total, self._meter.read()))


def _run_cells(plan: Plan, prepared: Prepared, arms: _Arms, sink: _Sink, out: Path) -> None:
    generated = {testset.name: testset.generated for testset in prepared.testsets if testset.generated is not None}
    attacks = {attack.name: attack for attack in plan.attacks}
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
        victim, cache = arms.load(checkpoint)
        for cell, examples in missing:
            if cell.testset in generated:
                sink.announce(f"{checkpoint} | {cell.testset} | searching distractors")
                examples = complete_set(victim, cell, prepared.examples[cell.testset], generated[cell.testset], out)
                finished = sink.store.finished(cell)
                examples = [example for example in examples if example.id not in finished]
            sink.store.forget_errored(cell)
            outcomes = _outcomes(victim, cache, attacks.get(cell.attack), examples, plan.settings.seed)
            sink.write(cell, outcomes, len(examples), victim.truncated)


def _add_warnings(out: Path, warnings: Sequence[str]) -> None:
    record = read_record(out)
    new = tuple(dict.fromkeys([*record.warnings, *warnings]))
    if new != record.warnings:
        write_record(out, record.model_copy(update={"warnings": new}))


def _outcomes(
    victim: AnyVictim, cache: QueryCache | None, attack: NamedAttack | None, examples: Sequence[Example], seed: int
) -> Iterator[Outcome]:
    if isinstance(victim, AnsweringVictim):
        if attack is None:
            return evaluate_answers(victim, examples)
        assert isinstance(attack.attack, AnswerAttack), "the plan gives questions to attacks on answers alone"
        return attack.attack.run_answers(victim, examples, seed=seed, digest=attack.digest)
    if attack is None:
        return evaluate_examples(victim, examples)
    if isinstance(attack.attack, GradientAttack):
        if not isinstance(victim, Victim):
            raise UsageError(
                f"attack {attack.name}: needs gradients of a classification head, which a prompted language model "
                "does not have; leave the attack out"
            )
        return attack.attack.run(victim, examples, seed=seed, digest=attack.digest)
    width = CUDA_WIDTH if victim.device.type == "cuda" else WIDTH
    return Scheduler(attack, victim, seed=seed, width=width, cache=cache).run(examples)
