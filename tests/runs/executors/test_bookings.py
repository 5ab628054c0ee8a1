"""What the driver keeps of a job whose workers die, with made-up messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from robustness.definitions.testsets import DistractorSearch as SearchSettings
from robustness.definitions.testsets import GeneratedSet
from robustness.engine.failures.faults import errored
from robustness.engine.outcome import Status
from robustness.errors import RunError
from robustness.progress import Progress
from robustness.runs.cells import NO_ATTACK, UNTUNED, Cell, ProbeCell
from robustness.runs.executors.probes import Measured, Probing, ProbingBooking
from robustness.runs.executors.replays import Answered, Replays
from robustness.runs.executors.searches import FoundDistractor, SearchedSet
from robustness.runs.executors.shards import Cutting
from robustness.runs.storage.measurements import MeasurementStore, read_measurements
from robustness.runs.storage.store import Store, read_replays
from robustness.runs.workload import DistractorSearch, Load, Transfer, Workload
from robustness.sensitivity.measurement import Kind, Measurement, Quantity, Space
from robustness.sensitivity.probe import Reading
from robustness.tasks.gold import GoldSpan
from robustness.tasks.grading import Grade
from robustness.testsets.example import Example

PROBE = ProbeCell("full", "sst2", "margin")
CELL, OTHER = Cell("full", "sst2", "swap"), Cell("full", "sst2", "drop")
EXAMPLES = [Example(name, (f"a fine film {name}",), label=1) for name in "abc"]
RIGHT = Grade(correct=True, quality=1.0, response="positive")


@pytest.fixture
def told() -> list[Progress]:
    return []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two attacks on `full` that broke texts: one a and b, the other b and c."""
    found = Store(tmp_path)
    for cell, broken in ((CELL, "ab"), (OTHER, "bc")):
        blanks = [errored(Example(name, ("fine",), label=1), "positive", "") for name in broken]
        found.add(
            cell,
            [replace(each, status=Status.SUCCEEDED, adversarial_text=("dull",), error=None) for each in blanks],
        )
    yield found
    found.close()


def replays_of(store: Store, gaps: list[str] | None = None) -> Replays:
    return Replays(store, Workload({}, lambda _: None), {"sst2": EXAMPLES}, [] if gaps is None else gaps)


def test_a_probe_that_its_workers_die_in_is_an_errored_row_and_is_tried_again_by_the_next_run(
    tmp_path: Path, store: Store, told: list[Progress]
) -> None:
    measurements = MeasurementStore(tmp_path)
    job = Probing(PROBE, tuple(EXAMPLES), ("lora",), 1.0)
    booking = ProbingBooking(job, Space.INPUT, measurements, Workload({PROBE: Load(3, 1.0)}, told.append))

    assert booking.left() is booking and booking.split() == [booking]
    booking.give_up("3 workers died on it")
    booking.finish()

    (row,) = read_measurements(tmp_path).to_dict("records")
    assert (row["quantity"], row["status"], row["reason"]) == ("margin", "errored", "3 workers died on it")
    assert not measurements.is_finished(PROBE) and (told[-1].done, told[-1].total) == (3, 3)
    measurements.close()


def test_a_probe_whose_worker_dies_after_its_readings_is_done(tmp_path: Path, store: Store) -> None:
    measurements = MeasurementStore(tmp_path)
    job = Probing(PROBE, tuple(EXAMPLES), (), 1.0)
    booking = ProbingBooking(job, Space.INPUT, measurements, Workload({}, lambda _: None))

    booking.store(Measured((Reading(Measurement(Quantity("margin"), 0.5, Kind.EXACT)),), 2.0))

    assert booking.left() is None and measurements.is_finished(PROBE)
    measurements.close()


def test_the_base_is_asked_about_a_clean_text_once_for_all_attacks(store: Store) -> None:
    jobs = [booking.job for booking in replays_of(store).book([Transfer(CELL, UNTUNED), Transfer(OTHER, UNTUNED)])]

    assert [[each.id for each in job.clean] for job in jobs] == [["a", "b"], ["c"]]  # type: ignore[attr-defined]
    assert [[each.id for each in job.texts] for job in jobs] == [["a", "b"], ["b", "c"]]  # type: ignore[attr-defined]


def test_partners_have_clean_answers_of_their_own(store: Store) -> None:
    (booking,) = replays_of(store).book([Transfer(CELL, "lora")])

    assert booking.job.clean == ()  # type: ignore[attr-defined]
    assert booking.job.affinity == "lora" and booking.job.key == "full -> lora | sst2 | swap"


def test_a_replay_whose_worker_dies_between_clean_and_adversarial_texts_asks_for_the_rest(
    tmp_path: Path, store: Store
) -> None:
    (booking,) = replays_of(store).book([Transfer(CELL, UNTUNED)])
    clean = Cell("full", "sst2", NO_ATTACK)

    booking.store(Answered(clean, (("a", RIGHT), ("b", RIGHT)), ()))
    left = booking.left()

    assert left is not None and left.job.clean == ()  # type: ignore[attr-defined]
    left.store(Answered(CELL, (("a", RIGHT), ("b", RIGHT)), ()))
    assert left.left() is None
    assert read_replays(tmp_path).groupby("attack").size().to_dict() == {"none": 2, "swap": 2}


def test_a_replay_that_its_workers_die_on_is_left_out_with_a_warning(tmp_path: Path, store: Store) -> None:
    gaps: list[str] = []
    (booking,) = replays_of(store, gaps).book([Transfer(CELL, "lora")])

    booking.give_up("3 workers died on it")
    booking.finish()

    assert gaps == ["full -> lora | sst2 | swap: left out, the same command tries again: 3 workers died on it"]
    assert len(read_replays(tmp_path)) == 0


def test_texts_that_a_target_cannot_answer_are_warned_of_with_their_number(tmp_path: Path, store: Store) -> None:
    gaps: list[str] = []
    (booking,) = replays_of(store, gaps).book([Transfer(CELL, "lora")])

    booking.store(Answered(CELL, (), (("a", "too long"), ("b", "no memory"))))

    assert gaps == [
        "full -> lora | sst2 | swap: 2 texts are left out, the same command tries again; the first: too long"
    ]


def searched_set(folder: Path, told: list[Progress]) -> SearchedSet:
    settings = SearchSettings(words=2, epochs=1, candidates=2, restarts=0)
    made = GeneratedSet(generator="addany", questions="squad", search=settings)
    gold = (GoldSpan("Ann", 0),)
    rows = [Example(f"q{n}", ("who", f"Ann {n} lives here."), 0, f"g{n}", (1,), answers=gold) for n in "123"]
    part = DistractorSearch("full", "tiny")
    return SearchedSet(part, made, rows, folder, Workload({part: Load(3, 1.0)}, told.append))


def test_the_cells_of_a_generated_set_are_ready_after_its_last_search_and_a_resumed_search_asks_for_the_rest(
    tmp_path: Path, told: list[Progress]
) -> None:
    ready: list[list[str]] = []

    def end(rows: object) -> list[object]:
        ready.append([row.texts[1] for row in rows])  # type: ignore[attr-defined]
        return []

    (first,) = searched_set(tmp_path, told).book(None, end)  # type: ignore[arg-type]
    first.store(FoundDistractor("q2", "blue two", 7))
    assert not list(first.finish()) and not ready

    bookings = searched_set(tmp_path, told).book(Cutting(2, 1), end)  # type: ignore[arg-type]
    missing = [example.id for booking in bookings for example in booking.job.examples]  # type: ignore[attr-defined]
    assert missing == ["q1", "q3"]
    for booking in bookings:
        for example in booking.job.examples:  # type: ignore[attr-defined]
            booking.store(FoundDistractor(example.id, f"red {example.id}", 5))
        assert booking.left() is None
        booking.finish()

    assert ready == [["Ann 1 lives here. red q1", "Ann 2 lives here. blue two", "Ann 3 lives here. red q3"]]
    assert len(list((tmp_path / "generated").glob("*.json"))) == 1 and told[-1].done == 2


def test_a_search_that_its_workers_die_in_ends_the_run_and_names_its_questions(
    tmp_path: Path, told: list[Progress]
) -> None:
    (booking,) = searched_set(tmp_path, told).book(None, lambda rows: [])

    with pytest.raises(RunError, match="searching distractors: no distractor for q1, q2, q3: died; "):
        booking.give_up("died")
