"""Retrying: what failed because a server was slow or down is asked for again, a little later each time."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 4
FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long."""
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that may be others a moment later."""
NETWORK_ERRORS = (
    *("ConnectError", "ConnectionError", "ConnectTimeout", "ReadError", "ReadTimeout"),
    *("ChunkedEncodingError", "RemoteProtocolError"),
)
"""Names of what HTTP libraries raise beside Python's own kinds."""


def with_retries(action: Callable[[], T], what: str) -> T:
    """Returns what `action` does; after a passing failure it is tried again, at most three times.

    Raises:
        Exception: what the last try raised, or the first lasting failure. That is a missing file, a refusal, or any
            failure where the hub is not to be asked (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, HF_DATASETS_OFFLINE).
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    def warn(state: RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        logger.warning("%s: %s; trying again in %g s", what, type(error).__name__, state.upcoming_sleep)

    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(FIRST_WAIT),
        retry=retry_if_exception(lambda error: offline_setting() is None and is_passing(error)),
        before_sleep=warn,
        reraise=True,
    )
    return retrying(action)


def is_passing(error: BaseException) -> bool:
    """Whether an error, or what caused it, is one of a slow, busy or unreachable server.

    A host name that does not resolve is no such failure: without a network it will not resolve seconds later.

    >>> is_passing(TimeoutError()), is_passing(FileNotFoundError())
    (True, False)
    """
    if not isinstance(error, Exception):  # Ctrl-C
        return False
    causes = list(_causes(error))
    if any(isinstance(each, socket.gaierror) and each.errno == socket.EAI_NONAME for each in causes):
        return False
    for each in causes:
        code = getattr(each, "code", None) or getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(code, int):
            return code in BUSY
        if isinstance(each, (ConnectionError, TimeoutError)) or type(each).__name__ in NETWORK_ERRORS:
            return True
    return False


def offline_setting() -> str | None:
    """Returns the setting of the environment that forbids asking the hub, as it would be typed, or None."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    on = (name for name in names if os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"})
    return next((f"{name}={os.environ[name]}" for name in on), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        reason = getattr(following, "reason", None)  # urllib keeps the cause there
        following = reason if isinstance(reason, BaseException) else following.__cause__ or following.__context__
