"""The settings that a command's options stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustness.errors import UsageError
from robustness.workers.execution import Execution

if TYPE_CHECKING:
    from robustness.options import CheckpointPair, RunSettings, TrainSettings
    from robustness.terminal.command_options import RunCommand, StudyCommand, TrainCommand

LISTS = {"testsets": "testset", "attacks": "attack", "probes": "probe", "attack_fields": "attack_field"}
"""Settings of a run with options that are repeated."""
RENAMED = {"allow_changed": "allow_changed_testset", "compile": "compile_model"}


def execution_of(given: TrainCommand | RunCommand | StudyCommand) -> Execution:
    """Returns the executor and its workers; raises UsageError for words that do not go together."""
    return Execution(given.executor, given.workers, given.ray_address)


def train_settings(given: TrainCommand) -> TrainSettings:
    """Returns the settings of a training; raises UsageError for a word that a setting does not have."""
    from robustness.options import TrainSettings  # loads pydantic

    named = {name: getattr(given, name) for name in TrainSettings.model_fields if name != "seeds"}
    return TrainSettings.model_validate(named | {"seeds": given.seed or [0]})


def run_settings(given: RunCommand) -> RunSettings:
    """Returns the settings of a run; raises UsageError for a word that a setting does not have."""
    from robustness.options import RunSettings

    named = {name: getattr(given, RENAMED.get(name, name)) for name in RunSettings.model_fields if name not in LISTS}
    return RunSettings.model_validate(named | {name: getattr(given, own) or () for name, own in LISTS.items()})


def choose_pairs(given: RunCommand) -> Path | CheckpointPair:
    """Returns the pairs file, or the two checkpoints in its place.

    Raises:
        UsageError: both are given, or neither whole.
    """
    from robustness.options import CheckpointPair

    needed = {"reference": given.reference, "candidate": given.candidate, "task": given.task}
    named = [name for name, value in {**needed, "base": given.base, "label": given.label}.items() if value]
    if given.pairs is not None:
        if named:
            raise UsageError(f"--pairs {given.pairs}: stands in place of --{named[0]}; give one of the two")
        return given.pairs
    missing = [f"--{name}" for name, value in needed.items() if not value]
    if missing:
        raise UsageError(
            f"no pairs: give --pairs FILE, or --reference, --candidate and --task (missing: {', '.join(missing)})"
        )
    return CheckpointPair.model_validate({**needed, "base": given.base, "labels": read_labels(given.label or ())})


def read_labels(words: Sequence[str]) -> dict[str, str]:
    """Reads NAME=LABEL; raises UsageError for anything else."""
    for each in words:
        if not all(each.partition("=")):
            raise UsageError(f"--label {each}: expected NAME=LABEL, such as LABEL_0=negative")
    return {name: label for name, _, label in (each.partition("=") for each in words)}
