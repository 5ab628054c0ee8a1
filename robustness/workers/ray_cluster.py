"""Workers that are actors of a Ray cluster, or of Ray on this machine alone."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from robustness.errors import RunError, UsageError, first_line
from robustness.workers.jobs import Job
from robustness.workers.reports import Lost, Refused, Report
from robustness.workers.worker import Worker

AUTO = "auto"
"""The cluster of this machine."""
INSTALL = "pip install 'peft-robustness[ray]'"
CONNECT_SECONDS = 5.0
"""Seconds for a cluster's address to answer."""
START_SECONDS = 300.0
"""Seconds that a cluster may lack room for any worker."""
HEAD_SECONDS = 10.0
"""Interval of checks of the head node."""
HEAD_MISSES = 3
"""Failed checks in a row before an error; after a minute Ray itself would end this process without our message."""
OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory for a locally started Ray: only jobs and messages use it."""
FORWARDED = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "TOKENIZERS_PARALLELISM",
    "NLTK_DATA",
)
"""Environment variables of this process for workers elsewhere."""


def check_ray(address: str | None) -> None:
    """Checks first whether Ray is available.

    Raises:
        UsageError: Ray is not installed, or nothing answers at the address.
    """
    try:
        import ray  # noqa: F401 - only tests the import
    except ImportError:
        raise UsageError(f"--executor ray: Ray is not installed: {INSTALL}") from None
    address = _resolve(address)
    if address is None or address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"--ray-address {address}: expected HOST:PORT of the head node, or auto on one of its nodes")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({error}); start Ray on that machine: ray start --head"
        ) from None


def _resolve(address: str | None) -> str | None:
    """The address for `auto`, as recorded by `ray start`, because Ray itself would ask a lost cluster for minutes."""
    if address != AUTO:
        return address
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    return os.environ.get("RAY_ADDRESS") or (note.read_text().strip() if note.is_file() else AUTO)


@contextmanager
def open_crew(
    address: str | None, workers: int | None, packed: bytes, *, on_gpus: bool
) -> Iterator[tuple[RayCrew, int]]:
    """Joins a cluster, or starts Ray on this machine, and leaves it afterwards; yields the pool and its size.

    Args:
        address: of the head node, auto, or None.
        workers: None for one on each GPU or, without GPUs, on each node.
        packed: the description of the workers' bench.
        on_gpus: whether each worker has a GPU.

    Raises:
        UsageError: there is no cluster, it has no CPU or no GPU, or its version of Ray or Python differs.
        RunError: the cluster goes away.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    joined = not ray.is_initialized()
    if joined:
        _join(address, workers)
    head = Head(ray.get_runtime_context().gcs_address)
    try:
        with _explain_lost_cluster():
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if not cpus:
            raise UsageError(
                "--executor ray: no node of the cluster has a CPU, which every worker needs; start nodes with "
                "--num-cpus=N"
            )
        if on_gpus and not gpus:
            raise UsageError("--device cuda: the Ray cluster has no GPU; start its nodes with --num-gpus, or use cpu")
        count = workers or (gpus if on_gpus else len(cpus))
        threads = 1 if on_gpus else max(1, min(sum(cpus) // count, *cpus))
        yield RayCrew(packed, head, threads=threads, gpus=int(on_gpus)), count
    finally:
        if joined and head.answers():  # otherwise it would wait for the head until Ray ends the process
            ray.shutdown()


def _join(address: str | None, workers: int | None) -> None:
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = max(os.cpu_count() or 1, workers or 1)
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "num_cpus": cpus}
    try:
        ray.init(address=_resolve(address) or "local", **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--ray-address {address or '(none)'}: Ray cannot be reached: {_tell(error)}; start it on every "
            "machine: ray start --head on the first, ray start --address=HOST:6379 on the others"
        ) from None


def _tell(error: Exception) -> str:
    """The first line of a message and the last line of a traceback in it."""
    lines = str(error).strip().splitlines()
    traced = any(line.startswith("Traceback") for line in lines)
    return f"{first_line(error)} {lines[-1]}" if traced else first_line(error)


@contextmanager
def _explain_lost_cluster() -> Iterator[None]:
    """Turns Ray's errors without a head node into a RunError with a remedy."""
    import ray

    try:
        yield
    except (ray.exceptions.RayError, OSError) as error:
        raise _lost_cluster(_tell(error)) from error


def _lost_cluster(reason: str) -> RunError:
    return RunError(
        f"--executor ray: the cluster is gone: {reason}; what is done is stored: the same command "
        "resumes once there is a cluster, or with another executor"
    )


@final
class Head:
    """Checks the head node by its address HOST:PORT, because without it Ray's own calls never return."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._misses = 0
        self._asked = time.monotonic()

    def answers(self) -> bool:
        """Returns whether it answers."""
        host, _, port = self._address.rpartition(":")
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
            return True
        return False

    def watch(self) -> None:
        """Checks it at intervals; raises RunError after several failures in a row."""
        if time.monotonic() - self._asked < HEAD_SECONDS:
            return
        self._misses = 0 if self.answers() else self._misses + 1
        if self._misses >= HEAD_MISSES:
            raise _lost_cluster(f"its head node does not answer at {self._address}")
        self._asked = time.monotonic()


class _Actor:
    """A worker run by Ray; its bench imports torch only after its environment is set."""

    def __init__(self, packed: bytes, threads: int, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._worker = Worker(packed, threads)

    def begin(self) -> Iterator[Report]:
        yield from self._worker.begin()

    def run(self, job: Job) -> Iterator[Report]:
        yield from self._worker.run(job)


@final
class RayCrew:
    """A pool of actors; each streams its reports.

    Args:
        packed: the description of the actors' bench.
        head: of the cluster.
        threads: CPUs of each worker.
        gpus: of each worker, 0 or 1.
    """

    def __init__(self, packed: bytes, head: Head, *, threads: int, gpus: int) -> None:
        import ray

        self._ray = ray
        self._packed = packed
        self._threads = threads
        self._environment = {name: os.environ[name] for name in FORWARDED if name in os.environ} | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
        }
        self._actor = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Actor)
        self._need = f"{threads} CPUs" + (" and a GPU" if gpus else "")
        self._hired = 0
        self._actors: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        """Pending reports of each busy worker."""
        self._starting: set[int] = set()
        self._roomless = 0.0
        """Seconds of waiting for starts alone."""
        self._head = head

    def start(self) -> int:
        """Asks the cluster for an actor."""
        self._hired += 1
        with _explain_lost_cluster():
            self._actors[self._hired] = actor = self._actor.remote(self._packed, self._threads, self._environment)
            self._streams[self._hired] = actor.begin.options(num_returns="streaming").remote()
        self._starting.add(self._hired)
        return self._hired

    def hand(self, worker: int, job: Job) -> None:
        """Starts a task on a worker."""
        with _explain_lost_cluster():
            self._streams[worker] = self._actors[worker].run.options(num_returns="streaming").remote(job)

    def wait(self, seconds: float) -> Sequence[tuple[int, Report]]:
        """Waits for a report.

        Raises:
            RunError: the cluster is gone, or has lacked room for any worker for a while.
        """
        numbers = {stream: number for number, stream in self._streams.items()}
        are_starting = self._streams.keys() <= self._starting
        timeout = min(seconds, HEAD_SECONDS)
        self._head.watch()
        with _explain_lost_cluster():
            ready, _ = self._ray.wait(list(numbers), timeout=timeout)
        if not ready:
            self._roomless = self._roomless + timeout if are_starting else 0.0
            self._refuse_to_wait_on()
            return []
        self._roomless = 0.0
        number = numbers[ready[0]]
        report = self._read(number)
        return [] if report is None else [(number, report)]

    def dismiss(self) -> None:
        """Ends all actors, if the cluster still exists."""
        if self._head.answers():
            for number in list(self._actors):
                self._end(number)

    def _refuse_to_wait_on(self) -> None:
        if self._roomless < START_SECONDS:
            return
        with _explain_lost_cluster():
            free = self._ray.available_resources()
        raise RunError(
            f"--executor ray: no worker could start within {START_SECONDS:g} seconds: each needs {self._need}, "
            f"the cluster has {_describe(free)} free; the same command tries again"
        )

    def _read(self, number: int) -> Report | None:
        """The next report of a worker; None after its task."""
        try:
            report: Report = self._ray.get(next(self._streams[number]))
        except StopIteration:
            del self._streams[number]
            return None
        except (self._ray.exceptions.RayError, OSError) as error:
            report = Lost(_tell(error))
        self._starting.discard(number)
        if isinstance(report, Lost | Refused):
            self._end(number)
        return report

    def _end(self, number: int) -> None:
        self._streams.pop(number, None)
        actor = self._actors.pop(number)
        if self._head.answers():
            with suppress(self._ray.exceptions.RayError, OSError, ValueError):  # a lost cluster has ended it
                self._ray.kill(actor)


def _describe(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
