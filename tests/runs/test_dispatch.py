from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from robustness.errors import RunError
from robustness.runs.executors import dispatch
from robustness.runs.executors.dispatch import Dispatcher, errored
from robustness.runs.executors.executor import Work
from robustness.runs.executors.reports import Ended, Found, Lost, Refused, Report, Started
from robustness.runs.executors.shards import make_shards
from robustness.runs.plan import Cell
from robustness.runs.record import library_versions
from robustness.runs.sink import Sink
from robustness.runs.store import Store, read_outcomes
from robustness.testsets.example import Example

CELL = Cell("full", "sst2", "swap")
OTHER = Cell("lora", "sst2", "swap")


def examples(count: int, group: int = 1) -> tuple[Example, ...]:
    return tuple(Example(f"e{n}", (f"text {n}",), 1, group_id=f"g{n // group}") for n in range(count))


class Crew:
    """Workers in this process: they die on the examples named, after telling of those before."""

    def __init__(
        self, deadly: Sequence[str] = (), false_starts: int = 0, versions: dict[str, str] | None = None
    ) -> None:
        self.deadly = set(deadly)
        self.false_starts = false_starts
        self.versions = library_versions() if versions is None else versions
        self.hired = 0
        self.deaths: Counter[str] = Counter()
        self.handed: list[tuple[int, Work]] = []
        self.dismissed = False
        self._reports: list[tuple[int, Report]] = []

    def hire(self) -> int:
        self.hired += 1
        started = Lost("no luck") if self.hired <= self.false_starts else Started(self.versions)
        self._reports.append((self.hired, started))
        return self.hired

    def hand(self, worker: int, shard: Work) -> None:
        self.handed.append((worker, shard))
        self._reports += [(worker, report) for report in self._work(shard)]

    def _work(self, shard: Work) -> Iterator[Report]:
        for example in shard.examples:
            if example.id in self.deadly:
                self.deaths[example.id] += 1
                yield Lost("killed")
                return
            yield Found((errored(example, "computed"),), frozenset())
        yield Ended(())

    def wait(self) -> list[tuple[int, Report]]:
        return [self._reports.pop(0)]

    def dismiss(self) -> None:
        self.dismissed = True


def run(
    crew: Crew, work: Sequence[Work], folder: Path, workers: int = 2, largest: int = 4
) -> dict[tuple[str, str], str]:
    """What every example's row says, by checkpoint and example."""
    store = Store(folder)
    try:
        sink = Sink(store, lambda _: None, sum(len(each.examples) for each in work))
        shards = make_shards(work, {}, workers, largest)
        Dispatcher(crew, sink, {each.cell: len(each.examples) for each in work}).run(shards, workers)
    finally:
        store.close()
    rows = read_outcomes(folder)
    return dict(zip(zip(rows["checkpoint"], rows["example_id"], strict=True), rows["error"], strict=True))


def test_every_example_of_every_cell_is_computed_once(tmp_path: Path) -> None:
    crew = Crew()

    rows = run(crew, [Work(CELL, examples(11)), Work(OTHER, examples(3))], tmp_path)

    assert len(rows) == 14 and set(rows.values()) == {"computed"}
    assert crew.dismissed and crew.hired == 2


def test_a_worker_keeps_to_the_checkpoint_it_has_loaded_while_it_can(tmp_path: Path) -> None:
    crew = Crew()

    run(crew, [Work(CELL, examples(32)), Work(OTHER, examples(32))], tmp_path, workers=1)

    assert [shard.cell for _, shard in crew.handed] == [CELL] * 8 + [OTHER] * 8


def test_an_example_that_kills_its_workers_is_errored_alone(tmp_path: Path) -> None:
    crew = Crew(deadly=["e5"])

    rows = run(crew, [Work(CELL, examples(16))], tmp_path)

    poisoned = {example for (_, example), error in rows.items() if error != "computed"}
    assert len(rows) == 16 and poisoned == {"e5"}
    assert crew.deaths["e5"] == dispatch.ATTEMPTS and "killed" in rows["full", "e5"]


def test_a_cell_that_kills_its_workers_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    class OneCellKills(Crew):
        def _work(self, shard: Work) -> Iterator[Report]:
            if shard.cell == CELL:
                self.deaths["cell"] += 1
                yield Lost("killed")
            else:
                yield from super()._work(shard)

    crew = OneCellKills()

    rows = run(crew, [Work(CELL, examples(40)), Work(OTHER, examples(10))], tmp_path)

    assert len(rows) == 50
    assert {checkpoint for (checkpoint, _), error in rows.items() if error == "computed"} == {"lora"}
    assert "workers died on 3 other examples" in rows["full", "e39"]
    assert crew.deaths["cell"] <= 12  # of 40 examples in ten shards


def test_workers_that_never_start_end_the_run(tmp_path: Path) -> None:
    crew = Crew(false_starts=100)

    with pytest.raises(RunError, match="3 workers in a row died as they started: no luck"):
        run(crew, [Work(CELL, examples(9))], tmp_path)
    assert crew.dismissed


def test_one_false_start_is_no_reason_to_end(tmp_path: Path) -> None:
    assert len(run(Crew(false_starts=2), [Work(CELL, examples(9))], tmp_path)) == 9


def test_a_worker_with_other_libraries_is_refused(tmp_path: Path) -> None:
    crew = Crew(versions=library_versions() | {"torch": "1.0"})

    with pytest.raises(RunError, match=r"torch \(.* here, 1.0 there\); install the same"):
        run(crew, [Work(CELL, examples(9))], tmp_path)


def test_what_a_worker_refuses_ends_the_run(tmp_path: Path) -> None:
    class Unwilling(Crew):
        def _work(self, shard: Work) -> Iterator[Report]:
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
    from robustness.engine.attack import NamedAttack
    from robustness.runs.plan import Unready

    attacks = {
        name: NamedAttack(name, name, Unready(""), max_queries=budget) for name, budget in (("swap", 50), ("tiny", 2))
    }
    work = [Work(Cell("full", "sst2", attack), examples(20)) for attack in ("none", "tiny", "swap")]

    order = list(dict.fromkeys(shard.cell.attack for shard in make_shards(work, attacks, 2, 10)))

    assert order == ["swap", "tiny", "none"]
