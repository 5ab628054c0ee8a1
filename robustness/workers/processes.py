"""Workers that are processes of this machine; on CUDA each has its own GPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import final

from robustness.workers.jobs import Job
from robustness.workers.reports import Lost, Refused, Report, Started
from robustness.workers.worker import Worker

WATCH_SECONDS = 1.0
"""Interval at which a process checks that its driver is alive."""
END_SECONDS = 5.0
"""How long a process may live after it has closed its pipe."""


@final
class Processes:
    """A pool of processes connected by pipes; the description of their bench is their standard input.

    They are started as programs, not forked: torch's threads and CUDA do not survive a fork.

    Args:
        packed: the description of a bench.
        devices: entries of CUDA_VISIBLE_DEVICES, one for each worker, more in reserve for broken ones; none on a CPU.
        threads: of each worker.
    """

    def __init__(self, packed: bytes, devices: Sequence[str], threads: int) -> None:
        self._packed = packed
        self._free = list(devices)
        """Devices, first those on which a worker has started before."""
        self._has_devices = bool(devices)
        self._threads = threads
        self._hired = 0
        self._connections: dict[int, Connection] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._devices: dict[int, str] = {}
        self._proven: set[int] = set()
        """Workers that have started."""

    def start(self) -> int:
        """Starts a process on a free device."""
        self._hired += 1
        ours, theirs = socket.socketpair()
        environment = dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "OMP_NUM_THREADS": str(self._threads),
            "MKL_NUM_THREADS": str(self._threads),
        }
        if self._has_devices:
            self._devices[self._hired] = environment["CUDA_VISIBLE_DEVICES"] = self._free.pop(0)
        with theirs, tempfile.TemporaryFile() as spec:  # a pipe would hold few bytes until the process reads
            spec.write(self._packed)
            spec.seek(0)
            # -P: the working directory comes where the driver has it, if at all, not first.
            start = [sys.executable, "-P", "-m", __name__]
            command = [*start, str(theirs.fileno()), str(self._threads), str(os.getpid())]
            self._processes[self._hired] = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=spec,
                env=environment,
                process_group=0,  # Ctrl-C is the driver's, which ends its workers
            )
        self._connections[self._hired] = Connection(ours.detach())
        return self._hired

    def hand(self, worker: int, job: Job) -> None:
        """Sends a job."""
        with suppress(OSError):  # it has died; the next read reports it
            self._connections[worker].send(job)

    def wait(self, seconds: float) -> list[tuple[int, Report]]:
        """Reads one report of every process with a report."""
        numbers = {id(connection): number for number, connection in self._connections.items()}
        ready = [numbers[id(connection)] for connection in wait(list(self._connections.values()), seconds)]
        return [(number, self._read(number)) for number in ready]

    def dismiss(self) -> None:
        """Ends all processes."""
        for number in list(self._processes):
            self._end(number)

    def _read(self, number: int) -> Report:
        try:
            report: Report = self._connections[number].recv()
        except (EOFError, OSError):  # a process killed in the middle of a message leaves half of it
            self._connections[number].close()
            report = Lost(f"process {_await_end(self._processes[number])}")
        if isinstance(report, Started):
            self._proven.add(number)
        if isinstance(report, Lost | Refused):
            self._end(number)
        return report

    def _end(self, number: int) -> None:
        self._connections.pop(number).close()
        process = self._processes.pop(number)
        process.kill()  # its only file is the query cache, which survives a kill
        process.wait()
        if self._has_devices:
            self._free.insert(0 if number in self._proven else len(self._free), self._devices.pop(number))


def _await_end(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        return "closed its pipe without exiting, and was killed"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def serve(descriptor: int, threads: int, driver: int) -> None:
    """A worker's main loop: reads its bench's description, then jobs, and writes reports, until the driver exits."""
    Thread(target=_end_with, args=(driver,), daemon=True).start()
    with Connection(descriptor) as connection:
        try:
            for report in _reports(connection, threads):
                connection.send(report)
        except (EOFError, OSError):
            return


def _end_with(driver: int) -> None:
    """Ends this process once its driver has died, which a long job without reports would notice hours later."""
    while os.getppid() == driver:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _reports(connection: Connection, threads: int) -> Iterator[Report]:
    worker = Worker(sys.stdin.buffer.read(), threads)
    yield from worker.begin()
    while True:
        yield from worker.run(connection.recv())


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
