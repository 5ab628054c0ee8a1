"""The schedule of a run: which of its jobs are ready, and what becomes ready when they are done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import final

from robustness.runs.attacked_rows import stages
from robustness.runs.cells import Cell
from robustness.runs.executors.executor import Work
from robustness.runs.executors.outcomes import OpenCell, ShardBooking
from robustness.runs.executors.probes import ProbingBooking, make_probing
from robustness.runs.executors.replays import Replays
from robustness.runs.executors.searches import SearchedSet
from robustness.runs.executors.shards import Cutting, make_shards
from robustness.runs.planning.loads import list_transfers
from robustness.runs.preparation import Prepared
from robustness.runs.storage.measurements import MeasurementStore
from robustness.runs.storage.sink import Sink
from robustness.runs.storage.store import Store
from robustness.runs.workload import DistractorSearch, Workload
from robustness.tasks.graders import grader_for
from robustness.testsets.example import Example
from robustness.workers.jobs import Booking


@final
class Schedule:
    """Books every part of a run that is not stored yet.

    Cells and probes are ready at once, with three exceptions:

    - cells of a generated set wait for its search;
    - attacks on rows that both arms have right wait for the arms' answers;
    - replays wait for the cell that found their texts.

    Args:
        prepared: the run.
        store: of its outcomes.
        measurements: of its probes.
        workload: counts its steps.
        out: its folder.
    """

    def __init__(
        self,
        prepared: Prepared,
        store: Store,
        measurements: MeasurementStore | None,
        workload: Workload,
        out: Path,
    ) -> None:
        self.gaps: list[str] = []
        """What this process could not do, in words; the next one tries again."""
        self._prepared = prepared
        self._measurements = measurements
        self._workload = workload
        self._out = out
        self._cutting: Cutting | None = None
        self._sink = Sink(store, workload)
        self._replays = Replays(store, workload, prepared.examples, self.gaps)
        self._stages = stages(prepared, store, out, self.gaps)
        self._open: set[Cell] = set()
        """Cells of the current stage without all outcomes."""

    def book(self, cutting: Cutting | None) -> list[Booking]:
        """Returns the jobs that are ready at the start; waiting jobs follow from `Booking.finish`.

        Args:
            cutting: for workers; None in one process.
        """
        self._cutting = cutting
        return [*self._book_stages(), *self._book_probes()]

    def _book_stages(self) -> list[Booking]:
        """Books the next stage, and further ones as long as nothing of them is missing."""
        booked: list[Booking] = []
        for stage in self._stages:
            missing = [left for work in stage if (left := self._missing_of(work)).examples]
            self._open = {work.cell for work in missing}
            done = [work.cell for work in stage if work.cell not in self._open]
            for cell in done:
                self._workload.skip(DistractorSearch(cell.checkpoint, cell.testset))
            booked += [*self._book_works(missing), *self._book_replays(done)]
            if self._open:
                break
        return booked

    def _missing_of(self, work: Work) -> Work:
        """The examples without outcomes."""
        finished = self._sink.finished(work.cell)
        self._workload.expect(work.cell, len(work.examples))
        self._workload.skip(work.cell, len(finished))
        return Work(work.cell, tuple(example for example in work.examples if example.id not in finished))

    def _book_works(self, missing: Sequence[Work]) -> list[Booking]:
        generated = {each.name: each.generated for each in self._prepared.testsets if each.generated is not None}
        booked: list[Booking] = []
        waiting: dict[DistractorSearch, list[Work]] = {}
        for work in missing:
            if work.cell.testset in generated:
                waiting.setdefault(DistractorSearch(work.cell.checkpoint, work.cell.testset), []).append(work)
            else:
                booked += self._book_cell(work)
        for part, works in waiting.items():
            rows = self._prepared.examples[part.testset]
            searched = SearchedSet(part, generated[part.testset], rows, self._out, self._workload)
            booked += searched.book(self._cutting, partial(self._book_searched, works))
        return booked

    def _book_searched(self, works: Sequence[Work], whole: Sequence[Example]) -> list[Booking]:
        """Books cells of a set whose rows have their distractors now."""
        booked: list[Booking] = []
        for work in works:
            wanted = {example.id for example in work.examples}
            booked += self._book_cell(Work(work.cell, tuple(each for each in whole if each.id in wanted)))
        return booked

    def _book_cell(self, work: Work) -> list[Booking]:
        grader = grader_for(self._prepared.tasks[work.cell.checkpoint])
        cell = OpenCell(work.cell, len(work.examples), self._sink, grader, self._end_cell)
        attack = next((each for each in self._prepared.plan.attacks if each.name == work.cell.attack), None)
        return [ShardBooking(shard, cell) for shard in make_shards(work, attack, self._cutting)]

    def _end_cell(self, cell: Cell) -> list[Booking]:
        self._open.discard(cell)
        return [*self._book_replays([cell]), *([] if self._open else self._book_stages())]

    def _book_replays(self, cells: Iterable[Cell]) -> list[Booking]:
        done = set(cells)
        return self._replays.book([each for each in list_transfers(self._prepared.plan) if each.source in done])

    def _book_probes(self) -> list[Booking]:
        probes = {probe.name: probe for probe in self._prepared.plan.probes}
        booked: list[Booking] = []
        for cell in self._prepared.plan.probe_cells:
            assert self._measurements is not None, "a run with probes has a store of measurements"
            if self._measurements.is_finished(cell):
                self._workload.skip(cell)
                continue
            named = probes[cell.probe]
            job = make_probing(self._prepared, cell, named)
            booked.append(ProbingBooking(job, named.probe.space, self._measurements, self._workload))
        return booked
