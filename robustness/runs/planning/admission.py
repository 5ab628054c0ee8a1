"""Admits the pairs of a plan whose checkpoints exist and have the task's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from robustness.definitions.pairs import Pair
from robustness.errors import CheckpointError, GateError, RobustnessError, UsageError
from robustness.runs.planning.plan import Plan
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint, read_checkpoint
from robustness.victims.flops import read_config
from robustness.victims.heads.registry import refuse_other_answers

Refusals = Mapping[str, RobustnessError]
"""Refused pairs by name, with the error."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The pairs with readable checkpoints."""

    plan: Plan
    """Without refused pairs."""
    checkpoints: dict[str, Checkpoint]
    tasks: dict[str, Task]
    """By checkpoint."""
    refused: Refusals


def admit(plan: Plan) -> Admission:
    """Checks the checkpoints of every pair by their configs, without weights; refuses a pair with an unfit one.

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
            _refuse_two_bases(checkpoints.get(checkpoint.name), checkpoint)
            checkpoints[checkpoint.name] = checkpoint
            tasks[checkpoint.name] = pair.task
    return Admission(narrow(plan, refused), checkpoints, tasks, refused)


def _refuse_two_bases(first: Checkpoint | None, second: Checkpoint) -> None:
    if first is not None and first.base_precision is not second.base_precision:
        raise UsageError(
            f"checkpoint {second.name}: one pair holds its base in {first.base_precision}, another in "
            f"{second.base_precision} (base_precision in the pairs file); evaluate them in two runs"
        )


def narrow(plan: Plan, refused: Refusals) -> Plan:
    """Returns the plan without refused pairs; raises the errors if none is left."""
    if any(pair.name not in refused for pair in plan.pairs):
        return plan.without(refused) if refused else plan
    first, *others = refused.values()
    if not others:
        raise first
    raise GateError(f"all {len(refused)} pairs are refused: {'; '.join(map(str, refused.values()))}")


def _look_at(pair: Pair) -> list[Checkpoint]:
    """Both arms, each with the other as its partner."""
    references = zip(pair.names, (pair.reference, pair.candidate), strict=True)
    precision = pair.base_precision
    first, second = (
        read_checkpoint(*each, pair.base, labels=pair.labels, base_precision=precision) for each in references
    )
    if precision is not None and not (first.is_adapter or second.is_adapter):
        raise CheckpointError(
            f"pair {pair.name}: base_precision is {precision}, which is of the base under an adapter, and both arms "
            "are whole models; leave it out"
        )
    arms = [replace(first, partner=second.folder), replace(second, partner=first.folder)]
    for arm in arms:
        refuse_other_answers(arm, pair.task, partial(_read_tokenizer, arm))
    return arms


def _read_tokenizer(arm: Checkpoint) -> Any:
    return read_config(arm)[1]
