from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from robustness.engine.failures.faults import errored
from robustness.errors import RunError
from robustness.runs.cells import Cell
from robustness.runs.executors.executor import Work
from robustness.runs.executors.outcomes import OpenCell, ShardBooking
from robustness.runs.executors.shards import Cutting, Found, Shard
from robustness.runs.executors.shards import make_shards as cut_cell
from robustness.runs.storage.sink import Sink
from robustness.runs.storage.store import Store, read_outcomes
from robustness.runs.workload import Workload
from robustness.tasks.grading import LabelGrader
from robustness.testsets.example import Example
from robustness.versions import library_versions
from robustness.workers import dispatch
from robustness.workers.dispatch import Dispatcher
from robustness.workers.reports import Ended, Lost, Refused, Report, Started, Told

CELL = Cell("full", "sst2", "swap")
GRADER = LabelGrader(("negative", "positive"))
OTHER = Cell("lora", "sst2", "swap")


def examples(count: int, group: int = 1) -> tuple[Example, ...]:
    return tuple(Example(f"e{n}", (f"text {n}",), 1, group_id=f"g{n // group}") for n in range(count))


def make_shards(work: Sequence[Work], attacks: Any, workers: int, largest: int) -> list[Shard]:
    """All shards in the order of a queue."""
    cutting = Cutting(workers, largest)
    shards = [shard for each in work for shard in cut_cell(each, attacks.get(each.cell.attack), cutting)]
    return sorted(shards, key=lambda shard: -shard.cost)


class WorkerPool:
    """Workers in this process: they die on the examples named, after telling of those before."""

    def __init__(
        self, deadly: Sequence[str] = (), false_starts: int = 0, versions: dict[str, str] | None = None
    ) -> None:
        self.deadly = set(deadly)
        self.false_starts = false_starts
        self.versions = library_versions() if versions is None else versions
        self.hired = 0
        self.deaths: Counter[str] = Counter()
        self.handed: list[tuple[int, Shard]] = []
        self.dismissed = False
        self._reports: list[tuple[int, Report]] = []

    def start(self) -> int:
        self.hired += 1
        started = Lost("no luck") if self.is_unlucky(self.hired) else Started(self.versions, "process 7 on here")
        self._reports.append((self.hired, started))
        return self.hired

    def is_unlucky(self, worker: int) -> bool:
        return worker <= self.false_starts

    def hand(self, worker: int, shard: Shard) -> None:
        self.handed.append((worker, shard))
        self._reports += [(worker, report) for report in self._work(shard)]

    def _work(self, shard: Shard) -> Iterator[Report]:
        for example in shard.examples:
            if example.id in self.deadly:
                self.deaths[example.id] += 1
                yield Lost("killed")
                return
            yield Told(Found((errored(example, "gold", "computed"),), frozenset()))
        yield Ended(())

    def wait(self, seconds: float) -> list[tuple[int, Report]]:
        return [self._reports.pop(0)]

    def dismiss(self) -> None:
        self.dismissed = True


def dispatch_all(
    worker_pool: Any, work: Sequence[Work], folder: Path, shards: Sequence[Shard], workers: int, **options: Any
) -> list[str]:
    store = Store(folder)
    try:
        sink = Sink(store, Workload({}, lambda _: None))
        cells = {each.cell: OpenCell(each.cell, len(each.examples), sink, GRADER, lambda _: ()) for each in work}
        bookings = [ShardBooking(shard, cells[shard.cell]) for shard in shards]
        return Dispatcher(worker_pool, workers, **options).run(bookings)
    finally:
        store.close()


def run(
    worker_pool: WorkerPool, work: Sequence[Work], folder: Path, workers: int = 2, largest: int = 4
) -> dict[tuple[str, str], str]:
    """What every example's row says, by checkpoint and example."""
    dispatch_all(worker_pool, work, folder, make_shards(work, {}, workers, largest), workers)
    rows = read_outcomes(folder)
    return dict(zip(zip(rows["checkpoint"], rows["example_id"], strict=True), rows["error"], strict=True))


def test_every_example_of_every_cell_is_computed_once(tmp_path: Path) -> None:
    worker_pool = WorkerPool()

    rows = run(worker_pool, [Work(CELL, examples(11)), Work(OTHER, examples(3))], tmp_path)

    assert len(rows) == 14 and set(rows.values()) == {"computed"}
    assert worker_pool.dismissed and worker_pool.hired == 2


def test_a_worker_keeps_to_the_checkpoint_it_has_loaded_while_it_can(tmp_path: Path) -> None:
    worker_pool = WorkerPool()

    run(worker_pool, [Work(CELL, examples(32)), Work(OTHER, examples(32))], tmp_path, workers=1)

    assert [shard.cell for _, shard in worker_pool.handed] == [CELL] * 8 + [OTHER] * 8


def test_an_example_that_kills_its_workers_is_errored_alone(tmp_path: Path) -> None:
    worker_pool = WorkerPool(deadly=["e5"])

    rows = run(worker_pool, [Work(CELL, examples(16))], tmp_path)

    poisoned = {example for (_, example), error in rows.items() if error != "computed"}
    assert len(rows) == 16 and poisoned == {"e5"}
    assert worker_pool.deaths["e5"] == dispatch.ATTEMPTS and "killed" in rows["full", "e5"]


def test_a_cell_that_kills_its_workers_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    class OneCellKills(WorkerPool):
        def _work(self, shard: Shard) -> Iterator[Report]:
            if shard.cell == CELL:
                self.deaths["cell"] += 1
                yield Lost("killed")
            else:
                yield from super()._work(shard)

    worker_pool = OneCellKills()

    rows = run(worker_pool, [Work(CELL, examples(40)), Work(OTHER, examples(10))], tmp_path)

    assert len(rows) == 50
    assert {checkpoint for (checkpoint, _), error in rows.items() if error == "computed"} == {"lora"}
    assert "workers died on 3 other parts of full | sst2 | swap" in rows["full", "e39"]
    assert worker_pool.deaths["cell"] <= 12  # of 40 examples in ten shards


def test_workers_that_never_start_end_the_run(tmp_path: Path) -> None:
    worker_pool = WorkerPool(false_starts=100)

    with pytest.raises(RunError, match="workers in a row died as they started, .*: no luck; none is left"):
        run(worker_pool, [Work(CELL, examples(9))], tmp_path)
    assert worker_pool.dismissed


def test_one_false_start_is_no_reason_to_end(tmp_path: Path) -> None:
    assert len(run(WorkerPool(false_starts=2), [Work(CELL, examples(9))], tmp_path)) == 9


class OneGoodGpu(WorkerPool):
    """The second worker and the next two die as they start, whatever the first does."""

    def is_unlucky(self, worker: int) -> bool:
        return worker in (2, 3, 4)


def test_a_run_goes_on_with_the_healthy_workers_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    worker_pool = OneGoodGpu()
    work = [Work(CELL, examples(60))]

    doubts = dispatch_all(worker_pool, work, tmp_path, make_shards(work, {}, 2, 4), 2)

    assert worker_pool.hired == 4 and len(read_outcomes(tmp_path)) == 60
    (doubt,) = doubts
    assert "3 workers in a row died as they started, the last one of: no luck; the run continues with 1" in doubt
    assert doubt in caplog.text


def test_a_healthy_worker_that_dies_is_replaced_though_others_could_not_start(tmp_path: Path) -> None:
    worker_pool = OneGoodGpu(deadly=["e50"])

    rows = run(worker_pool, [Work(CELL, examples(60))], tmp_path)

    assert len(rows) == 60 and {example for (_, example), error in rows.items() if error != "computed"} == {"e50"}
    assert worker_pool.deaths["e50"] == dispatch.ATTEMPTS and worker_pool.hired == 4 + dispatch.ATTEMPTS


class DyingTogether(WorkerPool):
    """The second worker keeps silent until the first has done all the rest; then both are gone at once."""

    def hand(self, worker: int, shard: Shard) -> None:
        assert worker not in (1, 2) or not self.deaths, "this worker is gone"
        if worker == 2:
            self.handed.append((worker, shard))
        else:
            super().hand(worker, shard)

    def wait(self, seconds: float) -> list[tuple[int, Report]]:
        if self._reports:
            return super().wait(seconds)
        self.deaths["both"] += 1
        return [(2, Lost("killed")), (1, Lost("killed"))]


def test_workers_that_die_together_one_of_them_idle_lose_nothing(tmp_path: Path) -> None:
    worker_pool = DyingTogether()

    rows = run(worker_pool, [Work(CELL, examples(16))], tmp_path)

    assert len(rows) == 16 and set(rows.values()) == {"computed"}
    assert worker_pool.deaths["both"] == 1 and worker_pool.hired == 3  # one shard is left, for one worker


class Silent(WorkerPool):
    """Says nothing about its first shard for 70 minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.minutes = 0

    def wait(self, seconds: float) -> list[tuple[int, Report]]:
        assert seconds <= 60
        if self.handed and self.minutes < 70:
            self.minutes += 1
            return []
        return super().wait(seconds)


def test_a_worker_that_is_silent_for_long_is_told_of_and_not_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker_pool = Silent()
    work = [Work(CELL, examples(4))]
    shards = make_shards(work, {}, 1, 4)

    doubts = dispatch_all(worker_pool, work, tmp_path, shards, 1, clock=lambda: 60.0 * worker_pool.minutes)

    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.partition(": ")[0] for message in told] == [
        f"worker 1, process 7 on here, has reported nothing for {minutes} minutes" for minutes in (30, 60)
    ]
    assert len(read_outcomes(tmp_path)) == 4 and worker_pool.hired == 1 and not doubts


def test_a_worker_with_other_libraries_is_refused(tmp_path: Path) -> None:
    worker_pool = WorkerPool(versions=library_versions() | {"torch": "1.0"})

    with pytest.raises(RunError, match=r"torch \(.* here, 1.0 there\); install the same"):
        run(worker_pool, [Work(CELL, examples(9))], tmp_path)


def test_what_a_worker_refuses_ends_the_run(tmp_path: Path) -> None:
    class Unwilling(WorkerPool):
        def _work(self, shard: Shard) -> Iterator[Report]:
            yield Refused("worker on there: checkpoint full: is missing")

    with pytest.raises(RunError, match="checkpoint full: is missing"):
        run(Unwilling(), [Work(CELL, examples(9))], tmp_path)


def test_shards_cover_a_cell_once_and_keep_groups_together() -> None:
    work = Work(CELL, examples(50, group=3))

    shards = make_shards([work], {}, workers=3, largest=10)

    ids = [example.id for shard in shards for example in shard.examples]
    groups = [{example.group for example in shard.examples} for shard in shards]
    assert sorted(ids) == sorted(example.id for example in work.examples)
    assert sum(len(group) for group in groups) == len(set.union(*groups))
    assert all(len(shard.examples) <= 10 for shard in shards)


def test_the_costliest_cells_come_first() -> None:
    from robustness.engine.named_attack import NamedAttack
    from robustness.runs.planning.plan import Unready

    attacks = {
        name: NamedAttack(name, name, Unready(""), max_queries=budget) for name, budget in (("swap", 50), ("tiny", 2))
    }
    work = [Work(Cell("full", "sst2", attack), examples(20)) for attack in ("none", "tiny", "swap")]

    order = list(dict.fromkeys(shard.cell.attack for shard in make_shards(work, attacks, 2, 10)))

    assert order == ["swap", "tiny", "none"]


def test_the_longest_cells_of_attacks_without_a_budget_come_first() -> None:
    from robustness.engine.named_attack import NamedAttack
    from robustness.runs.planning.plan import Unready

    names = ("checklist", "pwws", "deepwordbug", "pgd", "pruthi")
    attacks = {name: NamedAttack(name, name, Unready("")) for name in names}
    sentences = tuple(Example(f"e{n}", ("a word " * 9,), 1) for n in range(20))
    work = [Work(Cell("full", "sst2", attack), sentences) for attack in ("none", *names)]

    order = list(dict.fromkeys(shard.cell.attack for shard in make_shards(work, attacks, 2, 10)))

    assert order == ["pruthi", "pgd", "pwws", "deepwordbug", "checklist", "none"]


def test_of_equal_cells_the_one_with_longer_texts_comes_first() -> None:
    long = tuple(Example(f"l{n}", ("a paragraph " * 50,), 1) for n in range(20))
    short = Work(Cell("full", "sst2", "none"), examples(100))

    shards = make_shards([short, Work(Cell("full", "reviews", "none"), long)], {}, 2, 10)

    assert [shard.cell.testset for shard in shards] == ["reviews"] * 2 + ["sst2"] * 10
