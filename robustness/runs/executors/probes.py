"""Probe cells as jobs; a cell is measured whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

from robustness.errors import RobustnessError, UsageError
from robustness.runs.cells import ProbeCell
from robustness.runs.executors.bench import RunBench, for_probes
from robustness.runs.planning.measured_costs import PROBES, Passes
from robustness.runs.planning.rows import shuffle_examples
from robustness.runs.preparation import Prepared
from robustness.runs.storage.measurements import MeasurementStore
from robustness.runs.workload import Workload, name_part
from robustness.sensitivity.batching import errored_reading
from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus, Quantity, Space
from robustness.sensitivity.probe import NamedProbe, Reading, Subject, Unsupported
from robustness.testsets.example import Example
from robustness.victims.heads.head import Head
from robustness.workers.jobs import Booking

WEIGHTS_COST = 1e6
"""A guess for a probe of the weights alone, in characters read: some minutes of a small model."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A probe's message: all its readings."""

    readings: tuple[Reading, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Probing:
    """A probe of one checkpoint on one test set, as a job."""

    cell: ProbeCell
    examples: tuple[Example, ...]
    partners: tuple[str, ...]
    """The other arms of the checkpoint's pairs."""
    cost: float

    @property
    def key(self) -> str:
        """The cell in words."""
        return name_part(self.cell)

    @property
    def affinity(self) -> str:
        """The checkpoint, loaded for probes."""
        return for_probes(self.cell.checkpoint)

    def compute(self, bench: RunBench) -> Iterator[Measured]:
        """Yields the readings; raises as `RunJob.compute`."""
        for name in (self.cell.checkpoint, *self.partners):
            bench.check_weights(name)
        named = bench.definitions.probe(self.cell.probe)
        loading: list[float] = []

        def load() -> Head:
            """A probe's time is without it: of a checkpoint's probes the first would have all."""
            began = time.perf_counter()
            victim = bench.load_probed(self.cell.checkpoint).victim
            loading.append(time.perf_counter() - began)
            return victim

        started = time.perf_counter()
        readings = measure(named, self._subject(bench, named.digest, load))
        if any(reading.measurement.status is MeasurementStatus.ERRORED for reading in readings):
            bench.unload()  # it may have stopped halfway through a change of the weights
        yield Measured(tuple(readings), time.perf_counter() - started - sum(loading))

    def _subject(self, bench: RunBench, digest: str, load: Callable[[], Head]) -> Subject:
        victims = bench.victims
        return Subject(
            checkpoint=victims.checkpoint(self.cell.checkpoint),
            examples=self.examples,
            seed=bench.seed,
            digest=digest,
            load_victim=load,
            resources=bench.resources,
            partners=[victims.checkpoint(name) for name in self.partners],
            load_partner=lambda partner: victims.load(partner.name)[0],
            load_unmerged=lambda each: victims.load_unmerged(each.name),
        )


def make_probing(prepared: Prepared, cell: ProbeCell, named: NamedProbe) -> Probing:
    """Returns the job of a probe's cell."""
    testset = cell.testset or _first_testset(prepared, cell.checkpoint)
    used = prepared.rows[testset]
    shuffled = shuffle_examples(replace(used.testset, examples=used.examples), prepared.plan.settings.seed)
    examples = tuple(shuffled[: named.examples])
    characters = sum(len(text) for example in examples for text in example.texts)
    passes = PROBES.get(cell.probe, Passes(1, 0)).in_forwards
    cost = characters * passes if cell.testset else WEIGHTS_COST
    return Probing(cell, examples, _partners(prepared, cell.checkpoint), cost)


@final
class ProbingBooking:
    """A probe's cell, whose readings go to the store.

    Args:
        job: the cell.
        space: that the probe perturbs.
        store: of the run's measurements.
        workload: counts its steps.
    """

    def __init__(self, job: Probing, space: Space, store: MeasurementStore, workload: Workload) -> None:
        self.job = job
        self._space = space
        self._store = store
        self._workload = workload
        self._is_stored = False

    def begin(self) -> None:
        """Reports the cell as the current part."""
        self._workload.start(self.job.cell)

    def store(self, message: object) -> None:
        """Stores the readings."""
        assert isinstance(message, Measured), "a probe tells of its readings only"
        self._keep(message.readings, message.seconds)

    def left(self) -> ProbingBooking | None:
        """Returns itself until the readings are stored."""
        return None if self._is_stored else self

    def split(self) -> list[Booking]:
        """Returns itself: a cell is measured whole."""
        return [self]

    def give_up(self, reason: str) -> None:
        """Stores an errored reading."""
        self._keep([errored_reading(Quantity(self.job.cell.probe), reason)], 0.0)

    def finish(self) -> Sequence[Booking]:
        """Counts the cell; no job waits for it."""
        self._workload.finish(self.job.cell)
        return ()

    def _keep(self, readings: Sequence[Reading], seconds: float) -> None:
        self._store.replace(self.job.cell, self._space, readings, seconds)
        self._is_stored = True


def measure(named: NamedProbe, subject: Subject) -> list[Reading]:
    """Returns all readings of a probe, or one with the reason for their absence."""
    try:
        readings = list(named.probe.measure(subject))
        if not readings:
            return [_unsupported(named.name, "the probe measured nothing: it got no example that it can measure")]
        for reading in readings:
            if not isinstance(reading, Reading):
                raise TypeError(f"measure yielded {type(reading).__name__}; expected Reading")
        return readings
    except (Unsupported, UsageError) as error:  # the latter for a head that no probe measures
        return [_unsupported(named.name, str(error))]
    except RobustnessError as error:
        return [errored_reading(Quantity(named.name), str(error))]
    except Exception as error:  # a user's probe may raise anything; the run continues, the row holds it
        return [errored_reading(Quantity(named.name), f"{type(error).__name__}: {error}")]


def _unsupported(name: str, reason: str) -> Reading:
    blank = Measurement(Quantity(name), None, Kind.ESTIMATE, status=MeasurementStatus.UNSUPPORTED, reason=reason)
    return Reading(blank)


def _partners(prepared: Prepared, checkpoint: str) -> tuple[str, ...]:
    """The other arms of a checkpoint's pairs, once each."""
    arms = [pair.names for pair in prepared.plan.pairs]
    return tuple(dict.fromkeys(b for a, b in [*arms, *((b, a) for a, b in arms)] if a == checkpoint))


def _first_testset(prepared: Prepared, checkpoint: str) -> str:
    return next(each.name for each in prepared.testsets if each.task.name == prepared.tasks[checkpoint].name)
