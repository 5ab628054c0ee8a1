"""What is said when a Ray cluster is not as it should be, with a made-up Ray; test_executors.py has the real one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from robustness.errors import RunError, UsageError
from robustness.workers import ray_cluster
from robustness.workers.ray_cluster import Head, RayCrew, open_crew


class MadeUpRayError(Exception):
    """Stands for ray.exceptions.RayError."""


class MadeUpRay:
    """As much of Ray as a pool of workers uses; `fail` says which of its functions find no head node."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.exceptions = SimpleNamespace(RayError=MadeUpRayError)
        self.fail: set[str] = set()
        self.given: list[tuple[Any, ...]] = []
        self.killed = 0
        self.server: Any = None
        self.head = "127.0.0.1:1"  # where nothing answers
        self._nodes = [{"Alive": True, "Resources": node} for node in nodes]

    def _check(self, function: str) -> None:
        if function in self.fail:
            raise MadeUpRayError(f"{function}: failed to connect to GCS")

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        self._check("nodes")
        return self._nodes

    def remote(self, **_: Any) -> Callable[[type], Any]:
        def create(*given: Any) -> Any:
            self._check("remote")
            self.given.append(given)
            method = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: object()))
            return SimpleNamespace(begin=method, run=method)

        return lambda _: SimpleNamespace(remote=create)

    def wait(self, streams: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self._check("wait")
        return [], streams

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address=self.head)

    def available_resources(self) -> dict[str, float]:
        self._check("available_resources")
        return {"CPU": 0.0}

    def kill(self, actor: Any) -> None:
        self.killed += 1
        self._check("kill")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpRay]:
    found = MadeUpRay({"CPU": 2.0})
    monkeypatch.setitem(sys.modules, "ray", found)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as head:
        found.head = "127.0.0.1:{1}".format(*head.getsockname())
        found.server = head
        yield found


def make_crew(ray: MadeUpRay, packed: bytes = b"", threads: int = 1) -> RayCrew:
    return RayCrew(packed, Head(ray.head), threads=threads, gpus=0)


@pytest.mark.parametrize("function", ["remote", "wait"])
def test_a_cluster_that_goes_away_is_a_clear_error_and_can_be_left(ray: MadeUpRay, function: str) -> None:
    worker_pool = make_crew(ray)
    ray.fail = {function, "kill"}

    with pytest.raises(RunError, match=f"the cluster is gone: {function}: .* the same command resumes"):
        worker_pool.start()
        worker_pool.wait(1)
    worker_pool.dismiss()

    assert ray.killed == (function != "remote")


def test_a_cluster_that_is_gone_before_the_first_worker_is_a_clear_error(ray: MadeUpRay) -> None:
    ray.fail = {"nodes"}

    with pytest.raises(RunError, match="the cluster is gone"), open_crew("auto", 1, b"", on_gpus=False):
        pass


@pytest.mark.parametrize("on_gpus", [False, True])
def test_a_cluster_without_any_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, on_gpus: bool) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeUpRay({"GPU": 1.0}, {"CPU": 0.5}))  # type: ignore[arg-type]

    with (
        pytest.raises(UsageError, match="no node of the cluster has a CPU"),
        open_crew("auto", 2, b"", on_gpus=on_gpus),
    ):
        pass


def test_threads_are_shared_among_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", MadeUpRay({"CPU": 8.0}, {"CPU": 3.0}, {}))  # type: ignore[arg-type]
    with open_crew("auto", None, b"", on_gpus=False) as (crew, workers):
        pass

    assert workers == 2 and crew._threads == 3


def test_waiting_ends_when_a_worker_at_work_reports_nothing(ray: MadeUpRay) -> None:
    worker_pool = make_crew(ray)
    worker_pool.start()
    worker_pool._starting.clear()

    assert [worker_pool.wait(60) for _ in range(40)] == [[]] * 40


@pytest.mark.parametrize(
    ("fail", "message"), [("", "no worker could start within"), ("available_resources", "is gone")]
)
def test_workers_that_find_no_room_are_not_waited_for_without_end(ray: MadeUpRay, fail: str, message: str) -> None:
    worker_pool = make_crew(ray)
    worker_pool.start()
    ray.fail = {fail}
    slices = int(ray_cluster.START_SECONDS / ray_cluster.HEAD_SECONDS)
    for _ in range(slices - 1):
        assert worker_pool.wait(60) == []

    with pytest.raises(RunError, match=message):
        worker_pool.wait(60)


def test_a_head_node_that_does_not_answer_is_found_before_ray_ends_the_process(
    ray: MadeUpRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "HEAD_SECONDS", 0.0)
    worker_pool = make_crew(ray)
    worker_pool.start()
    worker_pool.wait(1)
    ray.server.close()
    worker_pool.wait(1), worker_pool.wait(1)

    with pytest.raises(RunError, match=f"head node does not answer at {ray.head}; .* the same command resumes"):
        worker_pool.wait(1)
    worker_pool.dismiss()

    assert ray.killed == 0  # which would wait for the head until Ray ends this process


def test_workers_elsewhere_are_told_to_stay_offline(ray: MadeUpRay, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UNRELATED", "1")
    worker_pool = make_crew(ray, b"spec", threads=4)

    worker_pool.start()

    ((packed, threads, environment),) = ray.given
    assert (packed, threads) == (b"spec", 4) and "UNRELATED" not in environment
    assert {environment[f"{library}_OFFLINE"] for library in ("HF_HUB", "TRANSFORMERS", "HF_DATASETS")} == {"1"}
    assert environment["OMP_NUM_THREADS"] == "4"
    assert set(environment) - {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} <= set(ray_cluster.FORWARDED) & set(os.environ)
