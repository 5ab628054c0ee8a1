"""Runs the probe cells of a plan; an interrupted cell runs again from the start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

from robustness.errors import RobustnessError, UsageError
from robustness.runs.cells import ProbeCell
from robustness.runs.planning.plan import Plan
from robustness.runs.planning.rows import shuffle_examples
from robustness.runs.preparation import Prepared
from robustness.runs.storage.measurements import MeasurementStore
from robustness.runs.workload import Workload
from robustness.sensitivity.batching import errored_reading
from robustness.sensitivity.measurement import Kind, Measurement, MeasurementStatus, Quantity
from robustness.sensitivity.probe import NamedProbe, Reading, Subject, Unsupported
from robustness.victims.heads.head import Head
from robustness.victims.loading import load_checkpoint


def run_probes(
    plan: Plan,
    prepared: Prepared,
    out: Path,
    load_victim: Callable[[str], Head],
    workload: Workload,
) -> None:
    """Measures every missing probe cell; loads each checkpoint at most once."""
    if not plan.probe_cells:
        return
    probes = {probe.name: probe for probe in plan.probes}
    store = MeasurementStore(out)
    try:
        for checkpoint, cells in groupby(plan.probe_cells, key=lambda cell: cell.checkpoint):
            load = cache(lambda name=checkpoint: load_victim(name))
            for cell in cells:
                if store.is_finished(cell):
                    workload.skip(cell)
                    continue
                workload.start(cell)
                named = probes[cell.probe]
                started = time.perf_counter()
                subject = _subject(plan, prepared, cell, named, load)
                subject = replace(subject, load_partner=lambda partner: load_victim(partner.name))
                readings = _measure(named, subject)
                store.replace(cell, named.probe.space, readings, time.perf_counter() - started)
                workload.finish(cell)
    finally:
        store.close()


def _subject(plan: Plan, prepared: Prepared, cell: ProbeCell, named: NamedProbe, load: Callable[[], Head]) -> Subject:
    testset = cell.testset or _first_testset(prepared, cell.checkpoint)
    used = prepared.rows[testset]
    seed = plan.settings.seed
    return Subject(
        checkpoint=prepared.checkpoints[cell.checkpoint],
        examples=shuffle_examples(replace(used.testset, examples=used.examples), seed)[: named.examples],
        seed=seed,
        digest=named.digest,
        load_victim=load,
        resources=plan.settings.resources,
        partners=[prepared.checkpoints[name] for name in _partner_names(plan, cell.checkpoint)],
        load_unmerged=lambda each: load_checkpoint(each, prepared.tasks[each.name]).unmerged,
    )


def _partner_names(plan: Plan, checkpoint: str) -> list[str]:
    """The other arms of a checkpoint's pairs, once each."""
    arms = [pair.names for pair in plan.pairs]
    return list(dict.fromkeys(b for a, b in [*arms, *((b, a) for a, b in arms)] if a == checkpoint))


def _first_testset(prepared: Prepared, checkpoint: str) -> str:
    return next(each.name for each in prepared.testsets if each.task.name == prepared.tasks[checkpoint].name)


def _measure(named: NamedProbe, subject: Subject) -> list[Reading]:
    """All readings, or one with the reason for their absence."""
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
