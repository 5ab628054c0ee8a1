"""The bench of a run: keeps one checkpoint loaded, and computes shards of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from transformers.utils import logging as transformers_logging

from robustness.engine.named_attack import NamedAttack
from robustness.engine.query_cache import QueryCache
from robustness.errors import CheckpointError, DataError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.runs.arms import Arms
from robustness.runs.executors.executor import find_outcomes
from robustness.runs.executors.outcomes import Found
from robustness.runs.executors.shards import Shard
from robustness.runs.planning.plan import Plan, Unready, resolve_or_postpone
from robustness.runs.preparation import Prepared
from robustness.runs.storage.sink import gather
from robustness.tasks.task import Task
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.loading import place
from robustness.workers.jobs import Job
from robustness.workers.packing import refuse_unsendable


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A worker's description of a run; paths are absolute."""

    checkpoints: Mapping[str, Checkpoint]
    tasks: Mapping[str, Task]
    weights: Mapping[str, str]
    """Digests of the checkpoints' weights, if workers read another machine's file system."""
    attacks: Mapping[str, str | NamedAttack]
    """By name: the attack's reference, or the attack itself if it was given as an object."""
    digests: Mapping[str, str]
    """Digests of the attacks."""
    ready: frozenset[str]
    """Attacks that were complete on the driver's machine."""
    seed: int
    dtype: str
    compile: bool
    cache: Path | None
    resources: Resources

    def build(self, threads: int) -> RunBench:
        """Returns the bench; raises an error if the device does not compute."""
        torch.set_num_threads(threads)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        placement = place(self.resources.device, self.dtype)
        torch.ones(1, device=placement.device).sum().item()  # finds a broken GPU before it gets work
        arms = Arms(self.checkpoints, self.tasks, placement, compile=self.compile, cache=self.cache)
        return RunBench(self, arms)


def describe_run(plan: Plan, prepared: Prepared, *, device: str, check_weights: bool) -> RunSpec:
    """Returns what a worker needs to know of a run.

    Args:
        plan: of the run.
        prepared: its checkpoints.
        device: cpu or cuda.
        check_weights: whether workers compare their view of the weights with the driver's.

    Raises:
        UsageError: an attack given as an object cannot be pickled.
    """
    settings = plan.settings
    return RunSpec(
        checkpoints=prepared.checkpoints,
        tasks=prepared.tasks,
        weights=prepared.weights_digests if check_weights else {},
        attacks=dict(zip((attack.name for attack in plan.attacks), references(plan), strict=True)),
        digests={attack.name: attack.digest for attack in plan.attacks},
        ready=frozenset(attack.name for attack in plan.attacks if not isinstance(attack.attack, Unready)),
        seed=settings.seed,
        dtype=settings.dtype,
        compile=settings.compile,
        cache=None if settings.cache is None else settings.cache.resolve(),
        resources=settings.resources.on(device),
    )


def references(plan: Plan) -> list[str | NamedAttack]:
    """Returns each attack's reference for another process, or the attack itself.

    Raises:
        UsageError: an attack given as an object cannot be pickled.
    """
    found: list[str | NamedAttack] = []
    for given, attack in zip(plan.attack_references, plan.attacks, strict=True):
        if isinstance(given, str):
            found.append(_absolute(given))
            continue
        refuse_unsendable(f"attack {attack.name}", attack)
        found.append(attack)
    return found


def _absolute(reference: str) -> str:
    """A reference with an absolute file."""
    file, colon, name = reference.rpartition(":") if ".py:" in reference else (reference, "", "")
    return f"{Path(file).resolve()}{colon}{name}" if Path(file).is_file() else reference


@final
class RunBench:
    """Computes shards in a worker's process.

    Args:
        spec: of the run.
        arms: loads its checkpoints.
    """

    def __init__(self, spec: RunSpec, arms: Arms) -> None:
        self._spec = spec
        self._arms = arms
        self._attacks: dict[str, NamedAttack] = {}
        self._resident: tuple[str, Head, QueryCache | None] | None = None
        self._told: frozenset[str] = frozenset()
        """Truncated texts of the loaded checkpoint that were reported."""

    def compute(self, job: Job) -> Iterator[Found]:
        """Yields outcomes as they come.

        Raises:
            RobustnessError: a checkpoint or an attack differs from the driver's.
            VictimGoneError: the victim fails on all examples.
        """
        assert isinstance(job, Shard), "a run has no other jobs"
        victim, cache = self._load(job.cell.checkpoint)
        attack = self._find_attack(job.cell.attack) if job.cell.attack in self._spec.attacks else None
        for outcomes in gather(find_outcomes(victim, cache, attack, job.examples, self._spec.seed)):
            truncated = frozenset(victim.truncated)
            yield Found(tuple(outcomes), truncated - self._told)
            self._told = truncated

    def doubts(self) -> list[str]:
        """Returns warnings about the victims so far."""
        return self._arms.warnings()

    def _load(self, name: str) -> tuple[Head, QueryCache | None]:
        if self._resident is None or self._resident[0] != name:
            self._resident = None  # two would not fit
            expected = self._spec.weights.get(name)
            folder = self._spec.checkpoints[name].folder
            if expected is not None and digest_weights(folder) != expected:
                raise CheckpointError(
                    f"checkpoint {name}: {folder} is missing here or has other weights than at the start of the run; "
                    "every machine must see the same files"
                )
            self._resident = (name, *self._arms.load(name))
            self._told = frozenset()
        return self._resident[1:]

    def _find_attack(self, name: str) -> NamedAttack:
        if name not in self._attacks:
            given = self._spec.attacks[name]
            found = given if isinstance(given, NamedAttack) else self._resolve(name, given)
            if found.digest != self._spec.digests[name]:
                raise UsageError(
                    f"attack {name}: differs here from the attack on the driver's machine; every machine must see "
                    "the same files and have the same packages"
                )
            self._attacks[name] = found
        return self._attacks[name]

    def _resolve(self, name: str, reference: str) -> NamedAttack:
        if name not in self._spec.ready:
            return resolve_or_postpone(reference, self._spec.resources)
        try:
            return find_attack(reference, self._spec.resources)
        except DataError as error:
            raise DataError(
                f"attack {name}: lacks files here that the driver's machine has; every machine must see the same "
                f"files and have the same packages: {error}"
            ) from None
