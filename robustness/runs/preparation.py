"""What is read and checked before the first cell runs: examples, checkpoints, the pair gate."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from robustness.definitions.catalog import TESTSETS
from robustness.errors import DataError
from robustness.runs.cells import NO_ATTACK
from robustness.runs.planning.foresight import Assumptions, count_seeds, describe_power, plan_set, read_rarer_share
from robustness.runs.planning.plan import Plan, command_words, digest_of
from robustness.runs.planning.rows import UsedRows, read_checkpoints, selecting_digests, use_rows, without_selecting
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    ProbeRecord,
    RunRecord,
    TestsetRecord,
    library_versions,
    now,
)
from robustness.tasks.task import Metric, Task, TaskKind
from robustness.testsets.drawing import draw
from robustness.testsets.example import Example
from robustness.testsets.loading import Testset, load_testset
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.identity import identify_method
from robustness.victims.files.tensors import stored_dtypes
from robustness.victims.flops import read_config
from robustness.victims.gate import CheckpointFacts, check_pair, inspect_checkpoint
from robustness.victims.heads.kinds import is_prompted
from robustness.victims.heads.prompts import prompt_of
from robustness.victims.loading import Placement, digest_files

GATE_EXAMPLES = 256
"""Clean examples on which the gate measures accuracy."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The inputs of a run, read and digested."""

    rows: dict[str, UsedRows]
    """By test set."""
    selected: dict[str, frozenset[str]]
    """By task: digests of the sets on which checkpoints were selected."""
    checkpoints: dict[str, Checkpoint]
    tasks: dict[str, Task]
    """By checkpoint."""
    train_seeds: dict[str, int | None]
    weights_digests: dict[str, str]
    base_digests: dict[str, str]
    """Of the weights of each checkpoint's base."""
    fingerprint: dict[str, str]

    @property
    def testsets(self) -> tuple[Testset, ...]:
        """Without the rows that selected a checkpoint."""
        return tuple(rows.testset for rows in self.rows.values())

    @property
    def examples(self) -> dict[str, tuple[Example, ...]]:
        """By test set, after the limit."""
        return {name: rows.examples for name, rows in self.rows.items()}


def prepare(plan: Plan) -> Prepared:
    """Reads test sets and checkpoint configs; loads no weights.

    Raises:
        DataError: a test set that cannot be read.
        CheckpointError: a checkpoint that is not there, not safe to load, or cannot render its task's chat.
    """
    checkpoints, tasks = read_checkpoints(plan)
    for name, checkpoint in checkpoints.items():
        if tasks[name].chat is not None and is_prompted(checkpoint, tasks[name]):
            prompt_of(tasks[name], read_config(checkpoint)[1])  # refuses what cannot render it
    seeds = {name: _seed_of(name, plan) for name in checkpoints}
    weights = cache(digest_weights)  # many adapters share one base
    selected = selecting_digests(checkpoints, tasks)
    rows = use_rows(plan, selected)
    data = {f"data: {name}": used.testset.digest for name, used in rows.items()}
    # Of an epoch's checkpoint the training record lies outside the folder that is digested below.
    kept = {name: [e.id for e in used.testset.examples] for name, used in rows.items() if used.n_selecting}
    data |= {f"selecting rows: {name}": digest_of(ids) for name, ids in kept.items()}
    digest = cache(digest_files)  # many adapters share one base
    data |= {
        f"checkpoints: {name}": digest_of([digest(each.folder), digest(each.base)])
        for name, each in checkpoints.items()
    }
    return Prepared(
        rows=rows,
        selected=selected,
        checkpoints=checkpoints,
        tasks=tasks,
        train_seeds=seeds,
        weights_digests={name: weights(each.folder) for name, each in checkpoints.items()},
        base_digests={name: weights(each.base) for name, each in checkpoints.items()},
        fingerprint=plan.fingerprint() | data,
    )


def foresee(plan: Plan, pilot: Path | None = None) -> tuple[str, ...]:
    """Returns lines that say what the plan's comparisons can show; loads its test sets, and no weights.

    Args:
        plan: what is to run.
        pilot: a run folder in which discordant examples are counted; None: the shipped assumption.

    Raises:
        RobustnessError: a test set or checkpoint that cannot be read, or a pilot that is none.
    """
    used = use_rows(plan, selecting_digests(*read_checkpoints(plan)))
    sets = [plan_set(plan, rows.testset, rows.examples) for rows in used.values()]
    assumed = Assumptions() if pilot is None else Assumptions(read_rarer_share(pilot), from_pilot=True)
    return tuple(describe_power(sets, count_seeds([(p.task.name, p.base, p.seed) for p in plan.pairs]), assumed))


def _seed_of(checkpoint: str, plan: Plan) -> int | None:
    """The training seed that all pairs of a checkpoint name."""
    named = {pair.seed for pair in plan.pairs if checkpoint in (pair.reference_name, pair.candidate_name)}
    return named.pop() if len(named) == 1 else None


def gate_pairs(plan: Plan, prepared: Prepared, placement: Placement) -> RunRecord:
    """Inspects every checkpoint once and checks every pair; returns the record of the run about to start.

    Raises:
        GateError: a pair that must not be compared, with every reason.
    """
    clean = {task: _clean_examples(plan, prepared, task) for task in set(prepared.tasks.values())}
    facts = {
        name: inspect_checkpoint(checkpoint, prepared.tasks[name], placement, clean[prepared.tasks[name]])
        for name, checkpoint in prepared.checkpoints.items()
    }
    for pair in plan.pairs:
        check_pair(pair, facts[pair.reference_name], facts[pair.candidate_name])
    return _record(plan, prepared, placement, facts)


def _clean_examples(plan: Plan, prepared: Prepared, task: Task) -> Sequence[Example]:
    """A clean set of this run, else the task's own, else the benign originals of an adversarial set."""
    mine = [testset for testset in prepared.testsets if testset.task.name == task.name]
    sources = [testset.examples for testset in mine if testset.kind == "clean"]
    if not sources:
        try:
            if task.name not in TESTSETS.names():  # a task of one's own, or one that ships without rows
                raise DataError(f"no test set {task.name}")
            own = load_testset(TESTSETS.find(task.name), plan.settings.data)
            sources = [without_selecting(own, prepared.selected).examples]
        except DataError:
            originals = (e.clean_form() for testset in mine for e in testset.examples if e.original is not None)
            sources = [tuple(originals)]
    if not any(sources):
        raise DataError(
            f"task {task.name}: no clean examples to check the pairs on; add a clean test set of the task to the run"
        )
    drawn = [draw(examples, GATE_EXAMPLES, "gate") for examples in sources]
    if task.kind is TaskKind.SPAN:
        return drawn[0]
    telling = next((examples for examples in drawn if len({e.label for e in examples}) > 1), None)
    if telling is None:
        n, label = len(drawn[0]), task.labels[drawn[0][0].label]
        raise DataError(
            f"task {task.name}: all {n} clean examples to check the pairs on have the label {label!r}: whether a "
            "checkpoint has learnt the task cannot be told from one label; add rows of the others, or run beside it "
            f"a clean test set that has them, such as {task.name}"
        )
    return telling


def _record(plan: Plan, prepared: Prepared, placement: Placement, facts: dict[str, CheckpointFacts]) -> RunRecord:
    device = placement.device
    return RunRecord(
        suite=plan.settings.suite,
        seed=plan.settings.seed,
        limit=plan.limit,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        dtype=plan.settings.arithmetic,
        fingerprint=prepared.fingerprint | {"device": device.type},
        pairs=tuple(
            PairRecord(
                name=p.name,
                task=p.task.name,
                base=p.base,
                reference=p.reference_name,
                candidate=p.candidate_name,
                seed=p.seed,
            )
            for p in plan.pairs
        ),
        tasks=tuple(dict.fromkeys(pair.task for pair in plan.pairs)),
        checkpoints=tuple(_checkpoint_record(prepared, name, facts[name]) for name in prepared.checkpoints),
        testsets=tuple(_testset_record(plan, prepared, testset) for testset in prepared.testsets),
        attacks=tuple(
            AttackRecord(
                name=attack.name,
                family=attack.family,
                digest=attack.digest,
                goal=attack.objective.kind,
                mirrors=attack.mirrors,
                effort=attack.effort,
            )
            for attack in plan.attacks
        ),
        probes=tuple(
            ProbeRecord(name=probe.name, digest=probe.digest, space=probe.probe.space) for probe in plan.probes
        ),
        warnings=(
            *(f"no pair for the task of test set {name}: not evaluated" for name in plan.unserved),
            *plan.left_out,
            *_dtype_warnings(plan, prepared),
            *(note for testset in prepared.testsets for note in testset.notes),
        ),
        started=now(),
        machine=platform.platform(),
        versions=library_versions(),
        command=command_words(plan.settings),
    )


def _dtype_warnings(plan: Plan, prepared: Prepared) -> Iterator[str]:
    """Both arms are computed in one type; weights that were rounded when they were saved stay rounded."""
    for pair in plan.pairs:
        full, peft = prepared.checkpoints[pair.reference_name], prepared.checkpoints[pair.candidate_name]
        types = stored_dtypes(full.folder), stored_dtypes(peft.folder, peft.base)
        if types[0] != types[1]:
            saved = [", ".join(sorted(each)) for each in types]
            yield (
                f"pair {pair.name}: the full arm's weights are saved as {saved[0]}, the PEFT arm's and its base's as "
                f"{saved[1]}: one arm was rounded more than the other"
            )


def _checkpoint_record(prepared: Prepared, name: str, facts: CheckpointFacts) -> CheckpointRecord:
    method = identify_method(prepared.checkpoints[name], prepared.tasks[name].name, prepared.base_digests[name])
    return CheckpointRecord(
        name=name,
        adaptation=facts.adaptation,
        task=prepared.tasks[name].name,
        base=str(prepared.checkpoints[name].base),
        train_seed=prepared.train_seeds[name],
        weights_digest=prepared.weights_digests[name],
        clean_accuracy=facts.clean_accuracy,
        majority_share=facts.majority_share,
        n_clean=facts.n_clean,
        merge_difference=facts.merge_difference,
        folder=str(prepared.checkpoints[name].folder),
        method_digest=method.digest,
        settings=method.settings,
        trainable_parameters=method.trainable_parameters,
    )


def _testset_record(plan: Plan, prepared: Prepared, testset: Testset) -> TestsetRecord:
    used = prepared.rows[testset.name]
    planned = plan_set(plan, testset, used.examples)
    return TestsetRecord(
        name=testset.name,
        task=testset.task.name,
        kind=testset.kind,
        provenance=testset.provenance,
        n=used.n_selecting + len(testset.examples),
        n_selecting=used.n_selecting,
        n_used=len(used.examples),
        drawn=used.drawn,
        digest=testset.digest,
        scores_f1=testset.task.metric is Metric.ACCURACY_AND_F1,
        labels=testset.task.labels,
        answers=testset.task.kind is TaskKind.SPAN,
        n_attacks=len({cell.attack for cell in plan.cells if cell.testset == testset.name} - {NO_ATTACK}),
        n_groups=planned.n,
        n_tests=planned.tests,
    )
