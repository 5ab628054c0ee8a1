"""A time limit on an attack's own code for one example."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, final

POLL_SECONDS = 0.05


class SearchTimeout(BaseException):
    """Raised inside a search that exceeds its time limit."""


@final
class Watchdog:
    """Interrupts the thread that created it when a guarded block runs too long.

    A separate thread watches the clock and raises SearchTimeout in the guarded thread, which ends any loop of Python
    code. It cannot interrupt a single call into compiled code that never returns.
    """

    def __init__(self) -> None:
        self._target = threading.get_ident()
        self._deadline: float | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="attack-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raises SearchTimeout in the block once `seconds` have passed; never after it."""
        self._deadline = time.perf_counter() + seconds
        try:
            yield
        finally:
            with self._lock:  # either the alarm has been raised already, or it will not be
                self._deadline = None

    def _watch(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            with self._lock:
                if self._deadline is not None and time.perf_counter() > self._deadline:
                    self._deadline = None
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(self._target), ctypes.py_object(SearchTimeout)
                    )
