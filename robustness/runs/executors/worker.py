"""A worker: keeps one checkpoint loaded, and computes its shards."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from transformers.utils import logging as transformers_logging

from robustness.engine.named_attack import NamedAttack
from robustness.engine.query_cache import QueryCache
from robustness.errors import CheckpointError, DataError, RobustnessError, UsageError
from robustness.recipes.assets.resources import Resources
from robustness.recipes.building import find_attack
from robustness.runs.arms import Arms
from robustness.runs.executors.executor import Work, find_outcomes
from robustness.runs.executors.reports import Ended, Found, Lost, Refused, Report, Started
from robustness.runs.planning.plan import Plan, Unready, resolve_or_postpone
from robustness.runs.preparation import Prepared
from robustness.runs.storage.record import library_versions
from robustness.runs.storage.sink import gather
from robustness.tasks.task import Task
from robustness.victims.files.bases import digest_weights
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.loading import place


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker's description of the run; paths are absolute."""

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
    threads: int


def pack_worker_spec(plan: Plan, prepared: Prepared, *, device: str, threads: int, check_weights: bool) -> bytes:
    """Returns the pickled spec of a run.

    Args:
        plan: of the run.
        prepared: its checkpoints.
        device: cpu or cuda.
        threads: torch's threads in one worker.
        check_weights: whether workers compare their view of the weights with the driver's.

    Raises:
        UsageError: an attack given as an object cannot be pickled.
    """
    settings = plan.settings
    spec = WorkerSpec(
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
        threads=threads,
    )
    return pickle.dumps(spec)


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
        _refuse_unpicklable(attack)
        found.append(attack)
    return found


def _absolute(reference: str) -> str:
    """A reference with an absolute file."""
    file, colon, name = reference.rpartition(":") if ".py:" in reference else (reference, "", "")
    return f"{Path(file).resolve()}{colon}{name}" if Path(file).is_file() else reference


def _refuse_unpicklable(attack: NamedAttack) -> None:
    try:
        pickle.dumps(attack)
    except Exception as error:  # a user's object may raise anything
        raise UsageError(
            f"attack {attack.name}: was given as an object that cannot be sent to workers: {type(error).__name__}: "
            f"{error}; name it as file.py:Name, or run without workers"
        ) from None


@final
class Worker:
    """Computes shards in its own process.

    Args:
        packed: the result of `pack_worker_spec`.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._kit: WorkerSpec
        self._arms: Arms
        self._attacks: dict[str, NamedAttack] = {}
        self._resident: tuple[str, Head, QueryCache | None] | None = None
        self._told: frozenset[str] = frozenset()
        """Truncated texts of the loaded checkpoint that were reported."""

    def begin(self) -> Iterator[Report]:
        """Unpacks the spec; yields Started, Refused if it cannot be read, or Lost if this machine is at fault."""
        try:
            self._kit = spec = pickle.loads(self._packed)
        except (OSError, MemoryError) as error:
            yield Lost(_locate(error))
            return
        except Exception as error:  # unpickling imports the modules of attack objects
            yield Refused(_locate(error))
            return
        try:
            torch.set_num_threads(spec.threads)
            transformers_logging.set_verbosity_error()
            transformers_logging.disable_progress_bar()
            placement = place(spec.resources.device, spec.dtype)
            torch.ones(1, device=placement.device).sum().item()  # finds a broken GPU before it gets work
            self._arms = Arms(spec.checkpoints, spec.tasks, placement, compile=spec.compile, cache=spec.cache)
        except Exception as error:  # the driver has checked everything else
            yield Lost(_locate(error))
        else:
            yield Started(library_versions(), f"process {os.getpid()} on {socket.gethostname()}")

    def run(self, shard: Work) -> Iterator[Report]:
        """Yields outcomes as they come, then Ended; Refused or Lost on an error."""
        try:
            victim, cache = self._load(shard.cell.checkpoint)
            attack = self._find_attack(shard.cell.attack) if shard.cell.attack in self._kit.attacks else None
            for outcomes in gather(find_outcomes(victim, cache, attack, shard.examples, self._kit.seed)):
                truncated = frozenset(victim.truncated)
                yield Found(tuple(outcomes), truncated - self._told)
                self._told = truncated
        except RobustnessError as error:
            yield Refused(f"worker on {socket.gethostname()}: {error}")
        except Exception as error:  # such as a CUDA error, after which the process is unusable
            yield Lost(f"{type(error).__name__}: {error}")
        else:
            yield Ended(tuple(self._arms.warnings()))

    def _load(self, name: str) -> tuple[Head, QueryCache | None]:
        if self._resident is None or self._resident[0] != name:
            self._resident = None  # two would not fit
            expected = self._kit.weights.get(name)
            folder = self._kit.checkpoints[name].folder
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
            given = self._kit.attacks[name]
            found = given if isinstance(given, NamedAttack) else self._resolve(name, given)
            if found.digest != self._kit.digests[name]:
                raise UsageError(
                    f"attack {name}: differs here from the attack on the driver's machine; every machine must see "
                    "the same files and have the same packages"
                )
            self._attacks[name] = found
        return self._attacks[name]

    def _resolve(self, name: str, reference: str) -> NamedAttack:
        if name not in self._kit.ready:
            return resolve_or_postpone(reference, self._kit.resources)
        try:
            return find_attack(reference, self._kit.resources)
        except DataError as error:
            raise DataError(
                f"attack {name}: lacks files here that the driver's machine has; every machine must see the same "
                f"files and have the same packages: {error}"
            ) from None


def _locate(error: Exception) -> str:
    return f"worker on {socket.gethostname()}: {type(error).__name__}: {error}"
