"""A hub that is slow, busy or down, and one that is not to be asked."""

from __future__ import annotations

import socket
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests

from robustness.definitions.tasks import find_task
from robustness.errors import CheckpointError, DataError
from robustness.retrying import is_passing, with_retries
from robustness.testsets import rows
from robustness.victims.files.checkpoint import locate


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been waited; the hub may be asked."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


def failing(error: Exception, times: int) -> Callable[[], str]:
    left = [error] * times

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    return act


def http(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("https://hub", code, "no", Message(), None)


def test_a_passing_failure_is_tried_again_later_and_later(waits: list[float]) -> None:
    assert with_retries(failing(TimeoutError(), 3), "file") == "done"
    assert waits == [1, 2, 4]


def test_a_server_that_stays_down_is_an_error_after_four_tries(waits: list[float]) -> None:
    with pytest.raises(ConnectionError):
        with_retries(failing(ConnectionError(), 9), "file")
    assert waits == [1, 2, 4]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (http(503), True),
        (http(429), True),
        (http(404), False),
        (http(403), False),
        (urllib.error.URLError(TimeoutError()), True),
        (requests.ReadTimeout("slow"), True),
        (requests.ConnectionError("down"), True),
        (ValueError("no"), False),
    ],
)
def test_what_passes_is_told_from_what_stays(error: Exception, passes: bool, waits: list[float]) -> None:
    try:
        raise RuntimeError("a library's own") from error
    except RuntimeError as wrapped:
        assert is_passing(error) == is_passing(wrapped) == passes
    if not passes:
        with pytest.raises(type(error)):
            with_retries(failing(error, 1), "file")
        assert waits == []


def test_what_is_tried_again_is_named_with_the_reason_and_the_wait(
    waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with_retries(failing(TimeoutError(), 1), "wordnet")

    assert [record.getMessage() for record in caplog.records] == ["wordnet: TimeoutError; trying again in 1 s"]


def test_ctrl_c_during_a_passing_failure_ends_it(waits: list[float]) -> None:
    def interrupted() -> None:
        try:
            raise ConnectionError
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_retries(interrupted, "file")
    assert waits == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_nothing_is_tried_twice(name: str, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")

    with pytest.raises(ConnectionError):
        with_retries(failing(ConnectionError(), 1), "file")
    assert waits == []


def test_a_checkpoint_is_had_from_a_hub_that_answers_late(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = failing(requests.ConnectTimeout("late"), 2)

    def download(name: str, **options: Any) -> str:
        assert options["etag_timeout"] > 0
        answers()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)

    assert locate("owner/model", "checkpoint") == tmp_path
    assert len(waits) == 2


@pytest.mark.parametrize(("code", "passes"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_host_name_that_does_not_resolve_is_not_asked_again(code: int, passes: bool) -> None:
    try:
        raise requests.ConnectionError("down") from socket.gaierror(code, "unresolved")
    except requests.ConnectionError as error:
        assert is_passing(error) == passes


@pytest.mark.parametrize(("proxies", "expected"), [({}, []), ({"https": "http://proxy"}, [1, 2, 4])])
def test_without_a_network_the_hub_is_asked_once_for_rows(
    proxies: dict[str, str], expected: list[float], waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach 'glue' on the Hub")  # as datasets raises it, without the cause

    def unresolved(*args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("datasets.load_dataset", down)
    monkeypatch.setattr("socket.getaddrinfo", unresolved)
    monkeypatch.setattr("urllib.request.getproxies", lambda: proxies)
    source = rows.HubDataset(dataset="glue", config="sst2", split="validation", revision="a" * 40, rows=2)

    with pytest.raises(DataError, match="Couldn't reach 'glue' on the Hub.*`robustness show TESTSET`"):
        rows.read_hub(source, find_task("sst2"))
    assert waits == expected


def test_a_hub_that_stays_down_is_one_line(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: object, **options: object) -> None:
        raise requests.ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", down)
    monkeypatch.setattr("datasets.load_dataset", down)
    source = rows.HubDataset(dataset="glue", config="sst2", split="validation", revision="a" * 40, rows=2)

    with pytest.raises(CheckpointError, match="not available from the hub: no route to the hub"):
        locate("owner/model", "checkpoint")
    with pytest.raises(DataError, match="no route to the hub"):
        rows.read_hub(source, find_task("sst2"))
    assert len(waits) == 6
