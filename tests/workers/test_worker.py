"""What a worker reports when its machine, or what it is asked, is at fault."""

from __future__ import annotations

import pickle
import socket
from typing import Any

import pytest
from made_up_jobs import Count, CountBenchSpec

from robustness.versions import library_versions
from robustness.workers.packing import pack
from robustness.workers.reports import Ended, Lost, Refused, Report, Started, Told
from robustness.workers.worker import Worker


def first_report(packed: bytes) -> Report:
    (report,) = Worker(packed, 1).begin()
    return report


def begun(spec: CountBenchSpec) -> Worker:
    worker = Worker(pack(spec), 3)
    assert isinstance(next(worker.begin()), Started)
    return worker


def test_a_worker_that_starts_says_where_it_is() -> None:
    report = first_report(pack(CountBenchSpec()))

    assert isinstance(report, Started) and report.where.startswith("process ")
    assert report.versions == library_versions()


def test_a_bench_that_cannot_be_built_loses_the_worker_and_ends_no_run() -> None:
    report = first_report(pack(CountBenchSpec(broken_device=True)))

    assert isinstance(report, Lost) and "worker on " in report.reason and "uncorrectable ECC error" in report.reason


class Unreadable:
    """Raises when it is unpickled."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self._error,)


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ImportError("no module named mine"), Refused), (OSError("stale file handle"), Lost), (MemoryError(), Lost)],
)
def test_a_kit_that_cannot_be_read_ends_the_run_unless_the_machine_is_at_fault(
    error: Exception, kind: type[Report]
) -> None:
    report = first_report(pickle.dumps(Unreadable(error)))

    assert isinstance(report, kind) and type(error).__name__ in report.reason


def test_messages_come_in_order_and_the_benchs_doubts_at_the_end() -> None:
    reports = list(begun(CountBenchSpec()).run(Count("to nine", 7, 10)))

    assert reports == [Told(7), Told(8), Told(9), Ended(("counted",))]


def test_what_the_bench_refuses_names_the_machine() -> None:
    told, refused = begun(CountBenchSpec(refused=8)).run(Count("to nine", 7, 10))

    assert told == Told(7)
    assert refused == Refused(f"worker on {socket.gethostname()}: number 8: is refused")


def test_any_other_error_loses_the_worker() -> None:
    (lost,) = begun(CountBenchSpec()).run(None)  # type: ignore[arg-type]

    assert isinstance(lost, Lost) and lost.reason.startswith("AssertionError")
