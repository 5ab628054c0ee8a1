"""The bench of a run: its arms, attacks and probes in one process, one checkpoint loaded at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

from robustness.engine.named_attack import NamedAttack
from robustness.engine.query_cache import CachedVictim, QueryCache
from robustness.errors import CheckpointError
from robustness.recipes.assets.resources import Resources
from robustness.runs.cells import UNTUNED
from robustness.runs.victim_loader import VictimLoader
from robustness.sensitivity.probe import NamedProbe
from robustness.victims.files.bases import digest_weights
from robustness.victims.heads.head import Head
from robustness.victims.isolation import VictimGoneError
from robustness.workers.jobs import Job


class Definitions(Protocol):
    """The attacks and probes of a run by name."""

    def attack(self, name: str) -> NamedAttack | None:
        """Returns an attack; None for `none`."""
        ...

    def probe(self, name: str) -> NamedProbe:
        """Returns a probe."""
        ...


@runtime_checkable
class RunJob(Job, Protocol):
    """A job of a run, of any kind."""

    def compute(self, bench: RunBench) -> Iterator[object]:
        """Yields messages for its booking.

        Raises:
            RobustnessError: ends the run.
            VictimGoneError: the victim or its device fails on everything; another process may succeed.
        """
        ...


@final
@dataclass(slots=True)
class Loaded:
    """A loaded victim."""

    victim: Head
    cache: QueryCache | None = None
    _told: frozenset[str] = frozenset()

    @property
    def scorer(self) -> CachedVictim | Head:
        """The victim behind its query cache, if there is one."""
        return self.victim if self.cache is None else self.cache.in_front_of(self.victim)

    def take_truncated(self) -> frozenset[str]:
        """Returns the digests of the texts that were truncated since the last call."""
        new = frozenset(self.victim.truncated) - self._told
        self._told |= new
        return new


@final
class RunBench:
    """What the jobs of a run share in one process.

    Args:
        victims: loads checkpoints.
        definitions: of the run.
        seed: of the run.
        resources: data folders and device of attacks and probes.
        weights: by folder, digests of the weights of checkpoints and bases, which this process compares before it
            uses them.
    """

    def __init__(
        self,
        victims: VictimLoader,
        definitions: Definitions,
        *,
        seed: int,
        resources: Resources,
        weights: Mapping[Path, str] | None = None,
    ) -> None:
        self.victims = victims
        self.definitions = definitions
        self.seed = seed
        self.resources = resources
        self._weights = dict(weights or {})
        self._loaded: tuple[str, Loaded | None] | None = None

    def compute(self, job: Job) -> Iterator[object]:
        """Yields the job's messages; raises as `RunJob.compute`."""
        assert isinstance(job, RunJob), "a run has no other jobs"
        try:
            yield from job.compute(self)
        except VictimGoneError as error:
            raise VictimGoneError(f"{job.key}: {error}") from error

    def doubts(self) -> list[str]:
        """Returns warnings about the victims so far."""
        return self.victims.warnings()

    def load_scored(self, name: str) -> Loaded:
        """Returns a checkpoint's victim for attacks and replays."""
        return self._present(self._keep(for_scores(name), lambda: self._load(name)))

    def load_probed(self, name: str) -> Loaded:
        """Returns a checkpoint's victim for probes, not that of attacks: a probe may change its weights."""
        return self._present(self._keep(for_probes(name), lambda: self._load(name)))

    def load_untuned(self, name: str) -> Loaded | None:
        """Returns the untuned base with a checkpoint's head; None if there is no such model."""
        return self._keep(for_untuned(name), lambda: self._load_untuned(name))

    def unload(self) -> None:
        """Forgets the loaded victim, which may be damaged."""
        self._loaded = None

    def check_weights(self, name: str) -> None:
        """Checks the weights of a checkpoint and of its base, each folder once.

        Raises:
            CheckpointError: weights here differ from the weights that the driver has seen.
        """
        checkpoint = self.victims.checkpoint(name)
        for part, folder in (("", checkpoint.folder), ("its base ", checkpoint.base)):
            expected = self._weights.pop(folder, None)
            if expected is not None and digest_weights(folder) != expected:
                raise CheckpointError(
                    f"checkpoint {name}: {part}{folder} is missing here or has other weights than at the start of "
                    "the run; every machine must see the same files"
                )

    def _keep(self, what: str, load: Callable[[], Loaded | None]) -> Loaded | None:
        if self._loaded is None or self._loaded[0] != what:
            self._loaded = None  # two would not fit
            self._loaded = (what, load())
        return self._loaded[1]

    def _load(self, name: str) -> Loaded:
        self.check_weights(name)
        return Loaded(*self.victims.load(name))

    def _load_untuned(self, name: str) -> Loaded | None:
        self.check_weights(name)
        victim = self.victims.load_untuned(name)
        return None if victim is None else Loaded(victim)

    @staticmethod
    def _present(loaded: Loaded | None) -> Loaded:
        assert loaded is not None, "only an untuned base may be missing"
        return loaded


def for_scores(checkpoint: str) -> str:
    """Returns the affinity of jobs that score texts on a checkpoint."""
    return checkpoint


def for_probes(checkpoint: str) -> str:
    """Returns the affinity of a checkpoint's probes."""
    return f"{checkpoint}, probed"


def for_untuned(checkpoint: str) -> str:
    """Returns the affinity of jobs that score texts on the untuned base with a checkpoint's head."""
    return f"{UNTUNED} of {checkpoint}"
