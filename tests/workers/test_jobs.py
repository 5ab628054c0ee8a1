"""A kind of job without any model, on real processes and in this one: order, readiness, and lost workers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from made_up_jobs import Count, CountBench, CountBenchSpec, CountBooking

from robustness.errors import RunError, UsageError
from robustness.workers.execution import Execution
from robustness.workers.jobs import Booking
from robustness.workers.packing import refuse_unsendable
from robustness.workers.pool import compute_here, compute_on_workers
from robustness.workers.queue import Queue

CPU = torch.device("cpu")


def take_all(queue: Queue, affinity: str = "") -> list[str]:
    return [queue.take(affinity).booking.job.key for _ in range(len(queue))]


def test_the_costliest_job_comes_first_and_of_equal_ones_the_earlier() -> None:
    jobs = [Count("b", 0, 1, cost=2.0), Count("a", 0, 1), Count("d", 0, 1, cost=3.0), Count("c", 0, 1, cost=2.0)]

    assert take_all(Queue([CountBooking(job) for job in jobs])) == ["d", "b", "c", "a"]


def test_a_job_of_what_is_loaded_comes_before_costlier_ones() -> None:
    jobs = [Count("a", 0, 1, "lora", 1.0), Count("b", 0, 1, "full", 9.0), Count("c", 0, 1, "lora", 2.0)]

    assert take_all(Queue([CountBooking(job) for job in jobs]), "lora") == ["c", "a", "b"]


def test_a_job_that_lost_its_worker_stays_first_when_costlier_ones_become_ready() -> None:
    queue = Queue([CountBooking(Count("a", 0, 1, cost=5.0))])
    queue.retry([CountBooking(Count("lost", 0, 1))], 1)

    queue.add([CountBooking(Count("b", 0, 1, cost=9.0))])

    assert take_all(queue) == ["lost", "b", "a"]


def test_a_worker_that_changes_what_it_loads_takes_what_no_other_has_loaded() -> None:
    jobs = [Count("a", 0, 1, "lora", 9.0), Count("b", 0, 1, "full", 5.0), Count("c", 0, 1, "base", 2.0)]
    queue = Queue([CountBooking(job) for job in jobs])

    taken = [queue.take("", others).booking.job.key for others in (["lora"], ["lora", "base"], [])]

    assert taken == ["b", "a", "c"]


def test_in_this_process_jobs_keep_their_order_except_for_what_is_loaded() -> None:
    order: list[str] = []

    class Noting(CountBooking):
        def begin(self) -> None:
            order.append(self.job.key)

    jobs = [Count("a", 0, 1, "full"), Count("b", 0, 1, "lora", 9.0), Count("c", 0, 1, "full", 5.0)]

    compute_here([Noting(job) for job in jobs], CountBench(CountBenchSpec(), 1))

    assert order == ["a", "c", "b"]


def chain() -> tuple[CountBooking, CountBooking]:
    """A job, and one that is ready only after it."""
    after = CountBooking(Count("after", 5, 7, cost=100.0))
    return CountBooking(Count("before", 0, 3), followers=[after]), after


@pytest.mark.parametrize("workers", [None, 2])
def test_a_job_that_becomes_ready_is_computed_after_the_one_it_waits_for(workers: int | None) -> None:
    before, after = chain()
    other = CountBooking(Count("other", 10, 12))
    bookings: list[Booking] = [before, other]

    if workers:
        assert set(compute_on_workers(bookings, CountBenchSpec(), Execution(workers=workers), CPU)) == {"counted"}
    else:
        compute_here(bookings, CountBench(CountBenchSpec(), 1))

    assert (before.told, after.told, other.told) == ([0, 1, 2], [5, 6], [10, 11])


def test_a_number_that_kills_its_workers_is_given_up_alone_and_what_waits_goes_on() -> None:
    before, after = chain()

    compute_on_workers([before], CountBenchSpec(deadly=1), Execution(workers=2), CPU)

    assert sorted(before.told) == [0, 2] and after.told == [5, 6]
    (reason,) = before.given_up
    assert "3 workers died on it, the last one on it alone: process ended with exit code 9" in reason


def test_what_a_bench_refuses_ends_all_work() -> None:
    booking = CountBooking(Count("to nine", 7, 10))

    with pytest.raises(RunError, match=f"worker on {socket.gethostname()}: number 8: is refused"):
        compute_on_workers([booking], CountBenchSpec(refused=8), Execution(workers=1), CPU)
    assert booking.told == [7]


def test_no_jobs_need_no_worker() -> None:
    assert compute_on_workers([], CountBenchSpec(broken_device=True), Execution(workers=1), CPU) == []


def test_an_object_that_no_other_process_can_get_is_refused_by_name() -> None:
    refuse_unsendable("probe Mine", Path("a"))

    with pytest.raises(UsageError, match=r"probe Mine: was given as an object .* name it as file\.py:Name"):
        refuse_unsendable("probe Mine", lambda: None)
