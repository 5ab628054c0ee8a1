"""Preparation before the first cell: examples, checkpoints, the pair gate."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from robustness.definitions.catalog import TESTSETS
from robustness.definitions.pairs import BasePrecision
from robustness.errors import CheckpointError, DataError, GateError
from robustness.runs.cells import NO_ATTACK
from robustness.runs.planning.admission import Refusals, narrow
from robustness.runs.planning.foresight import plan_set
from robustness.runs.planning.plan import Plan, command_words, digest_of
from robustness.runs.planning.rows import UsedRows, digest_examples, read_draft, without_selecting
from robustness.runs.storage.record import (
    AttackRecord,
    CheckpointRecord,
    PairRecord,
    ProbeRecord,
    RefusedPair,
    RunRecord,
    TestsetRecord,
    now,
)
from robustness.tasks.task import Metric, Task
from robustness.testsets.drawing import draw
from robustness.testsets.example import Example
from robustness.testsets.loading import Testset, load_testset
from robustness.versions import library_versions
from robustness.victims.comparability import check_pair, describe_rounding
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.changes import BASE
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.files.identity import identify_method
from robustness.victims.files.selection import recorded_training, training_seconds
from robustness.victims.files.tensors import stored_dtypes
from robustness.victims.gate import CheckpointFacts, inspect_checkpoint
from robustness.victims.loading import Placement, digest_files

GATE_EXAMPLES = 256
"""Clean examples on which the gate measures accuracy."""
GATE_RESPONSES = 64
"""The same for generated responses, which cost as much as dozens of labels."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The inputs of a run and their digests."""

    plan: Plan
    """Without pairs with unreadable checkpoints."""
    refused: Refusals
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
    """Digest of the weights of each checkpoint's base."""
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
        DataError: a test set cannot be read.
        RobustnessError: no pair has existing and safe checkpoints.
    """
    fingerprint = plan.fingerprint()
    draft = read_draft(plan)
    plan, rows, checkpoints, tasks = draft.plan, draft.rows, draft.admission.checkpoints, draft.admission.tasks
    seeds = {name: _seed_of(checkpoint, plan) for name, checkpoint in checkpoints.items()}
    weights = cache(digest_weights)  # many adapters share one base
    data = {f"data: {name}": used.testset.digest for name, used in rows.items()}
    data |= {f"rows: {name}": digest_examples(used.testset.examples) for name, used in rows.items()}
    # The training record of an epoch's checkpoint lies outside the folder digested below.
    kept = {name: [e.id for e in used.testset.examples] for name, used in rows.items() if used.n_selecting}
    data |= {f"selecting rows: {name}": digest_of(ids) for name, ids in kept.items()}
    digest = cache(digest_files)  # many adapters share one base
    data |= {
        f"checkpoints: {name}": digest_of(
            [digest(each.folder), digest(each.base), *([each.base_precision] if each.is_on_four_bit else [])]
        )
        for name, each in checkpoints.items()
    }
    packed_by = next((each.packed_by for each in checkpoints.values() if each.is_on_four_bit), None)
    data |= {} if packed_by is None else {"bitsandbytes": packed_by}
    return Prepared(
        plan=plan,
        refused=draft.admission.refused,
        rows=rows,
        selected=draft.selected,
        checkpoints=checkpoints,
        tasks=tasks,
        train_seeds=seeds,
        weights_digests={name: weights(each.folder) for name, each in checkpoints.items()},
        base_digests={name: weights(each.base) for name, each in checkpoints.items()},
        fingerprint=fingerprint | data,
    )


def _seed_of(checkpoint: Checkpoint, plan: Plan) -> int | None:
    """The training seed named by all pairs of a checkpoint, or else recorded by its training."""
    named = {pair.seed for pair in plan.pairs if checkpoint.name in pair.names}
    if named != {None}:
        return named.pop() if len(named) == 1 else None
    recorded = recorded_training(checkpoint.folder).get("seed")
    return recorded if isinstance(recorded, int) else None


def gate_pairs(prepared: Prepared, placement: Placement, begin: Callable[[str, int, int], None]) -> RunRecord:
    """Inspects every checkpoint once and checks every pair; returns the record of the new run.

    Args:
        prepared: the inputs of the run.
        placement: device and precision.
        begin: called before each checkpoint with its name, the number of those inspected, and of all.

    Raises:
        RobustnessError: every pair is refused; the message has all reasons.
    """
    plan = prepared.plan
    clean = {pair.task: _clean_examples(plan, prepared, pair.task) for pair in plan.pairs}

    names = {name for pair in plan.pairs for name in pair.names}
    inspected: list[str] = []

    @cache
    def inspect(name: str) -> CheckpointFacts | CheckpointError:
        begin(name, len(inspected), len(names))
        inspected.append(name)
        task = prepared.tasks[name]
        try:
            checkpoint = prepared.checkpoints[name]
            return inspect_checkpoint(checkpoint, task, placement, clean[task], quantised=name in packed)
        except CheckpointError as error:
            return error

    packed = _beside_four_bit(plan, prepared.checkpoints)
    facts: dict[str, CheckpointFacts] = {}
    refused = dict(prepared.refused)
    for pair in plan.pairs:
        try:
            arms = []
            for name in pair.names:
                found = inspect(name)
                if isinstance(found, CheckpointError):
                    raise found
                arms.append(found)
            check_pair(pair, *arms, allow_untrained=plan.settings.allow_untrained)
            facts |= {each.checkpoint: each for each in arms}
        except (CheckpointError, GateError) as error:
            refused[pair.name] = error
    return _record(narrow(plan, refused), prepared, placement, facts, refused)


def _beside_four_bit(plan: Plan, checkpoints: Mapping[str, Checkpoint]) -> frozenset[str]:
    """Both arms of every pair with a base in 4 bit, in the run or in training."""
    kinds = {name: (each.base_precision, each.trained_precision) for name, each in checkpoints.items()}
    packed = {name for name, precisions in kinds.items() if BasePrecision.FOUR_BIT in precisions}
    return frozenset(name for pair in plan.pairs for name in pair.names if packed.intersection(pair.names))


def _clean_examples(plan: Plan, prepared: Prepared, task: Task) -> Sequence[Example]:
    """A clean set of this run, or the task's own, or the benign originals of an adversarial set."""
    mine = [testset for testset in prepared.testsets if testset.task.name == task.name]
    sources = [testset.examples for testset in mine if testset.kind == "clean"]
    if not sources:
        try:
            if task.name not in TESTSETS.names():  # a user's task, or one without shipped rows
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
    size = GATE_RESPONSES if task.kind.traits.is_generated else GATE_EXAMPLES
    drawn = [draw(examples, size, "gate") for examples in sources]
    if not task.labels:
        return drawn[0]
    telling = next((examples for examples in drawn if len({e.label for e in examples}) > 1), None)
    if telling is None:
        n, label = len(drawn[0]), task.labels[drawn[0][0].label]
        raise DataError(
            f"task {task.name}: all {n} clean examples to check the pairs on have the label {label!r}: one label "
            "does not show whether a checkpoint has learnt the task; add rows of the others, or run beside it "
            f"a clean test set that has them{f', such as {task.name}' if task.name in TESTSETS.names() else ''}"
        )
    return telling


def _record(
    plan: Plan, prepared: Prepared, placement: Placement, facts: dict[str, CheckpointFacts], refused: Refusals
) -> RunRecord:
    device = placement.device
    return RunRecord(
        suite=plan.settings.suite,
        seed=plan.settings.seed,
        limit=plan.limit,
        attacked=plan.attacked,
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
                labels=dict(p.labels),
            )
            for p in plan.pairs
        ),
        tasks=tuple(dict.fromkeys(pair.task for pair in plan.pairs)),
        checkpoints=tuple(_checkpoint_record(prepared, name, facts[name]) for name in facts),
        refused=tuple(RefusedPair(name=name, reason=str(error)) for name, error in refused.items()),
        testsets=tuple(_testset_record(plan, prepared, prepared.rows[entry.name].testset) for entry in plan.testsets),
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
            *(f"pair {name} is not compared: {error}" for name, error in refused.items()),
            *(note for each in facts.values() for note in (*_untrained_warnings(each), *each.notes)),
            *_unserved_warnings(plan),
            *plan.left_out,
            *_dtype_warnings(plan, prepared),
            *_rounding_warnings(plan, placement, facts),
            *(note for testset in prepared.testsets for note in testset.notes),
        ),
        started=now(),
        machine=platform.platform(),
        versions=library_versions(),
        command=command_words(plan.settings),
    )


def _unserved_warnings(plan: Plan) -> Iterator[str]:
    """A test set that was asked for and is left out; a suite lists sets of several tasks, of which pairs have few."""
    if plan.settings.testsets and plan.unserved:
        yield f"not evaluated, for no pair has their tasks: test sets {', '.join(plan.unserved)}"


def _untrained_warnings(facts: CheckpointFacts) -> Iterator[str]:
    if facts.is_untrained:
        yield (
            f"{facts.checkpoint} is a base that has not learnt the task (--allow-untrained): its clean score is "
            f"{facts.clean_accuracy:.3f} on {facts.n_clean} examples, and the floor is "
            f"{facts.majority_share:.3f}"
        )


def _rounding_warnings(plan: Plan, placement: Placement, facts: dict[str, CheckpointFacts]) -> Iterator[str]:
    """Device and dtype are equal on both arms; batching and merging depend on the arm."""
    if placement.dtype is torch.float32:  # in float32 neither changes answers: each arm's noise floor shows it
        return
    for pair in plan.pairs:
        for difference in describe_rounding(pair, *(facts[name] for name in pair.names)):
            yield f"{difference}: in {plan.settings.arithmetic} they are rounded differently; try --dtype float32"


def _dtype_warnings(plan: Plan, prepared: Prepared) -> Iterator[str]:
    """Both arms are computed in one type, but weights that were saved rounded stay rounded."""
    for pair in plan.pairs:
        arms = [prepared.checkpoints[name] for name in pair.names]
        types = [stored_dtypes(arm.folder, *([arm.base] if arm.is_adapter else [])) for arm in arms]
        if types[0] != types[1]:
            saved = [", ".join(sorted(each)) for each in types]
            yield (
                f"pair {pair.name}: the weights of {pair.names[0]} are saved as {saved[0]}, those of {pair.names[1]} "
                f"(an adapter's with its base's) as {saved[1]}: one arm was rounded more than the other"
            )


def _checkpoint_record(prepared: Prepared, name: str, facts: CheckpointFacts) -> CheckpointRecord:
    change, quantisation = facts.change, facts.quantisation
    checkpoint = prepared.checkpoints[name]
    made = None if change is None else (change.adaptation, change.rank)
    method = identify_method(checkpoint, prepared.tasks[name].name, prepared.base_digests[name], made)
    counted = None if change is None else change.trainable_parameters
    return CheckpointRecord(
        name=name,
        adaptation=facts.adaptation,
        task=prepared.tasks[name].name,
        base=str(checkpoint.base),
        train_seed=prepared.train_seeds[name],
        weights_digest=prepared.weights_digests[name],
        clean_accuracy=facts.clean_accuracy,
        majority_share=facts.majority_share,
        n_clean=facts.n_clean,
        merge_difference=facts.merge_difference,
        folder=str(checkpoint.folder),
        method_digest=method.digest,
        settings=method.settings,
        trainable_parameters=method.trainable_parameters if counted is None else counted,
        parameters=facts.parameters,
        changed="" if change is None else change.words,
        noise_floor=None if facts.noise is None else facts.noise.share,
        n_noise=0 if facts.noise is None else facts.noise.n,
        base_precision=str(checkpoint.base_precision) if checkpoint.is_adapter else "",
        quantised_changed=None if quantisation is None else quantisation.changed,
        quantised_probability=None if quantisation is None else quantisation.probability,
        n_quantised=0 if quantisation is None else quantisation.n,
        recorded_method=_recorded_method(prepared.checkpoints[name].folder, facts.adaptation),
        train_seconds=training_seconds(prepared.checkpoints[name].folder),
    )


def _recorded_method(folder: Path, adaptation: str) -> str:
    """Nothing for a base, which no training has changed."""
    recorded = recorded_training(folder).get("method")
    return recorded if isinstance(recorded, str) and adaptation != BASE else ""


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
        answers=testset.task.metric is Metric.EXACT_MATCH_AND_F1,
        n_attacks=len({cell.attack for cell in plan.cells if cell.testset == testset.name} - {NO_ATTACK}),
        n_groups=planned.n,
        n_tests=planned.tests,
    )
