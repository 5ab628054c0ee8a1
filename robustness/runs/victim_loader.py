"""Loads a run's checkpoints as victims by the run's settings, each with its part of the query cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from robustness.engine.query_cache import QueryCache
from robustness.tasks.task import Task
from robustness.victims.files.checkpoint import Checkpoint
from robustness.victims.heads.head import Head
from robustness.victims.loading import (
    LoadedCheckpoint,
    Placement,
    digest_victim,
    load_checkpoint,
    to_untuned_victim,
    to_victim,
)
from robustness.victims.sharing import SharedBases


@final
class VictimLoader:
    """Loads checkpoints by name.

    Args:
        checkpoints: by name.
        tasks: the task of each.
        placement: their device and precision.
        compile: whether to score with kernels compiled by torch.compile.
        cache: folder of the query cache, or None.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Checkpoint],
        tasks: Mapping[str, Task],
        placement: Placement,
        *,
        compile: bool = False,
        cache: Path | None = None,
    ) -> None:
        self._checkpoints = checkpoints
        self._tasks = tasks
        self._placement = placement
        self._compile = compile
        self._cache = cache
        self._caches: dict[str, QueryCache] = {}
        """By victim's digest: a checkpoint that is loaded again keeps its connection."""
        self._failures: list[str] = []
        self._bases = SharedBases()
        self._contradicted: dict[str, list[set[str]]] = defaultdict(list)
        """What each victim of a checkpoint records; the victims themselves must not be kept."""

    def load(self, name: str) -> tuple[Head, QueryCache | None]:
        """Returns the victim, with its query cache if the run has one."""
        checkpoint = self._checkpoints[name]
        victim = to_victim(self._read(name), self._placement, self._bases)
        self._bases.add(checkpoint.base, victim.model)
        self._contradicted[name].append(victim.contradicted)
        if self._compile and (failure := victim.compile()):
            self._failures.append(f"{name}: {failure}")
        if self._cache is None:
            return victim, None
        digest = digest_victim(checkpoint, victim)
        if digest not in self._caches:
            self._caches[digest] = QueryCache(self._cache, digest, victim.grader)
        return victim, self._caches[digest]

    def checkpoint(self, name: str) -> Checkpoint:
        """Returns the checkpoint's description."""
        return self._checkpoints[name]

    def load_unmerged(self, name: str) -> Any:
        """Returns the PeftModel of a checkpoint, not merged."""
        return load_checkpoint(self._checkpoints[name], self._tasks[name]).unmerged

    def _read(self, name: str) -> LoadedCheckpoint:
        checkpoint = self._checkpoints[name]
        return load_checkpoint(checkpoint, self._tasks[name], self._bases.held(checkpoint.base))

    def load_untuned(self, name: str) -> Head | None:
        """Returns the untuned base with the checkpoint's head, or None if there is no such model."""
        checkpoint = self._checkpoints[name]
        victim = to_untuned_victim(self._read(name), self._placement, self._bases)
        if victim is not None:
            self._bases.add(checkpoint.base, victim.model)
        return victim

    def close(self) -> None:
        """Closes the query caches."""
        for cache in self._caches.values():
            cache.close()

    def warnings(self) -> list[str]:
        """Returns warnings about the victims and their caches."""
        counts = {name: len(set().union(*noted)) for name, noted in self._contradicted.items()}
        doubts = [
            f"{name}: {count} texts found by searches got another label when they were judged; "
            "it is not deterministic"
            for name, count in counts.items()
            if count
        ]
        return [
            *self._failures,
            *doubts,
            *(warning for cache in self._caches.values() for warning in cache.warnings()),
        ]
