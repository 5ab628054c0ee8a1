"""Which pairs of a plan can be run: their checkpoints are there and have the task's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from robustness.definitions.pairs import Pair
from robustness.errors import CheckpointError, GateError, RobustnessError
from robustness.runs.planning.plan import Plan
from robustness.tasks.task import Task, TaskKind
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.flops import read_config
from robustness.victims.heads.kinds import is_prompted
from robustness.victims.heads.prompts import prompt_of
from robustness.victims.label_maps import map_labels, read_labels

Refusals = Mapping[str, RobustnessError]
"""Pairs by name, with what is wrong."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The pairs whose checkpoints can be read."""

    plan: Plan
    """Without the pairs that are refused."""
    checkpoints: dict[str, Checkpoint]
    tasks: dict[str, Task]
    """By checkpoint."""
    refused: Refusals


def admit(plan: Plan) -> Admission:
    """Looks at the checkpoints of every pair; reads configs, no weights. A pair of which one is unfit is refused.

    Raises:
        RobustnessError: every pair is refused.
    """
    checkpoints: dict[str, Checkpoint] = {}
    tasks: dict[str, Task] = {}
    refused: dict[str, RobustnessError] = {}
    for pair in plan.pairs:
        try:
            found = _look_at(pair)
        except CheckpointError as error:
            refused[pair.name] = error
            continue
        for checkpoint in found:
            checkpoints[checkpoint.name] = checkpoint
            tasks[checkpoint.name] = pair.task
    return Admission(narrow(plan, refused), checkpoints, tasks, refused)


def narrow(plan: Plan, refused: Refusals) -> Plan:
    """Returns the plan without refused pairs; raises what is wrong where none is left."""
    if any(pair.name not in refused for pair in plan.pairs):
        return plan.without(refused) if refused else plan
    first, *others = refused.values()
    if not others:
        raise first
    raise GateError(f"all {len(refused)} pairs are refused: {'; '.join(map(str, refused.values()))}")


def _look_at(pair: Pair) -> list[Checkpoint]:
    """Both arms, each with the other as its partner."""
    references = zip(pair.names, (pair.reference, pair.candidate), strict=True)
    first, second = (read_checkpoint(*each, pair.base, labels=pair.labels) for each in references)
    arms = [replace(first, partner=second.folder), replace(second, partner=first.folder)]
    for arm in arms:
        _refuse_other_answers(arm, pair.task)
    return arms


def _refuse_other_answers(arm: Checkpoint, task: Task) -> None:
    """What a checkpoint answers with must be the task's: its labels, or what it goes on with after a prompt."""
    if task.kind is TaskKind.TEXT or is_prompted(arm, task):
        if task.chat is not None:
            prompt_of(task, read_config(arm)[1])  # refuses a tokenizer that cannot render it
    elif task.kind is TaskKind.LABELS:
        map_labels(task, read_labels(arm).by_column, arm.name)
