from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from robustness.errors import UsageError
from robustness.victims import precision
from robustness.victims.precision import faster_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    faster_dtype.cache_clear()
    yield
    faster_dtype.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.5), torch.bfloat16), ((1.0, 0.95), torch.float32), ((1.0, 100.0), torch.float32)],
)
def test_the_clock_decides(
    seconds: tuple[float, float], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = dict(zip((torch.float32, torch.bfloat16), seconds, strict=True))
    monkeypatch.setattr(precision, "refuse_missing_cpu_features", lambda: None)
    monkeypatch.setattr(precision, "_seconds", lambda device, dtype: taken[dtype])

    assert faster_dtype(CPU) is expected


def test_where_bfloat16_would_end_the_process_it_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UsageError("a layer ends a process here")

    monkeypatch.setattr(precision, "refuse_missing_cpu_features", refuse)
    monkeypatch.setattr(precision, "_seconds", lambda device, dtype: pytest.fail("tried"))

    assert faster_dtype(CPU) is torch.float32


@pytest.mark.parametrize(("has_it", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_is_taken_at_its_word(has_it: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small product takes a GPU as long in any type, so the clock would decide by its noise."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_it and not including_emulation
    )
    monkeypatch.setattr(precision, "_seconds", lambda device, dtype: pytest.fail("timed"))

    assert faster_dtype(torch.device("cuda")) is expected


def test_trying_draws_nothing() -> None:
    """A training whose process tries later than another's has the same weights."""
    before = torch.random.get_rng_state()

    precision._seconds(CPU, torch.float32)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_trying_takes_no_time_to_speak_of() -> None:
    start = time.perf_counter()

    found = {dtype: precision._seconds(CPU, dtype) for dtype in (torch.float32, torch.bfloat16)}

    assert all(0 < seconds < 5 for seconds in found.values())
    assert time.perf_counter() - start < 30
