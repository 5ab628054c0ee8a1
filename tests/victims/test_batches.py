from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustness.victims.batches import TokenBatches


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(1, 100), st.integers(20, 200))
def test_every_text_is_run_once_in_batches_that_fit(lengths: list[int], tokens: int, memory: int) -> None:
    def forward(batch: NDArray[np.int64]) -> list[int]:
        if len(batch) * max(lengths[index] for index in batch) > memory:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [lengths[index] for index in batch]

    batches = TokenBatches(tokens)
    found = list(batches.run(np.array(lengths, dtype=np.int64), forward))

    assert sorted(index for batch, _ in found for index in batch) == list(range(len(lengths)))
    assert all([lengths[index] for index in batch] == read for batch, read in found)
    widths = [max(read) for _, read in found]
    assert widths == sorted(widths, reverse=True)
    assert batches.tokens is not None and batches.tokens <= tokens


def test_memory_is_given_back_once_the_error_that_holds_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[BaseException | None] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: handled.append(sys.exception()))

    def forward(batch: NDArray[np.int64]) -> int:
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return len(batch)

    assert [found for _, found in TokenBatches(100).run(np.array([9, 9]), forward)] == [1, 1]
    assert handled == [None]
