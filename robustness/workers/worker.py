"""A worker: builds its bench, and computes one job after the other."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import final

from robustness.errors import RobustnessError
from robustness.quiet import quieten_notices
from robustness.versions import library_versions
from robustness.workers.jobs import Bench, Job
from robustness.workers.packing import unpack
from robustness.workers.reports import Ended, Lost, Refused, Report, Started, Told


@final
class Worker:
    """Computes jobs in its own process.

    Args:
        packed: the description of its bench, packed.
        threads: of this worker.
    """

    def __init__(self, packed: bytes, threads: int) -> None:
        self._packed = packed
        self._threads = threads
        self._bench: Bench

    def begin(self) -> Iterator[Report]:
        """Builds the bench; yields Started, Refused if it cannot be unpacked, or Lost if this machine is at fault."""
        quieten_notices()
        try:
            spec = unpack(self._packed)
        except (OSError, MemoryError) as error:
            yield Lost(_locate(error))
            return
        except Exception as error:  # unpickling imports the modules of a caller's objects
            yield Refused(_locate(error))
            return
        try:
            self._bench = spec.build(self._threads)
        except Exception as error:  # the driver has checked everything else
            yield Lost(_locate(error))
        else:
            yield Started(library_versions(), f"process {os.getpid()} on {socket.gethostname()}")

    def run(self, job: Job) -> Iterator[Report]:
        """Yields messages as they come, then Ended; Refused or Lost on an error."""
        try:
            for message in self._bench.compute(job):
                yield Told(message)
        except RobustnessError as error:
            yield Refused(f"worker on {socket.gethostname()}: {error}")
        except Exception as error:  # such as a CUDA error, after which the process is unusable
            yield Lost(f"{type(error).__name__}: {error}")
        else:
            yield Ended(tuple(self._bench.doubts()))


def _locate(error: Exception) -> str:
    return f"worker on {socket.gethostname()}: {type(error).__name__}: {error}"
