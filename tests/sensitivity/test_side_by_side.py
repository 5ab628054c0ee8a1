from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from robustness.sensitivity.side_by_side import MOST, map_side_by_side


@pytest.fixture(params=[1, 2, 8])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_items_are_taken_only_as_many_ahead_as_run(threads: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        assert threading.current_thread() is threading.main_thread()
        for item in range(20):
            taken.append(item)
            yield item

    ahead = [len(taken) - done for done, _ in enumerate(map_side_by_side(lambda item: item * item, items()), start=1)]

    assert list(map_side_by_side(lambda item: item * item, range(20))) == [item * item for item in range(20)]
    assert max(ahead) <= min(threads, MOST)
    assert torch.get_num_threads() == threads


def test_pieces_run_side_by_side_with_a_thread_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meeting = threading.Barrier(2, timeout=30)

    def meet(_: int) -> int:
        meeting.wait()  # breaks unless two are here at once
        return torch.get_num_threads()

    try:
        assert list(map_side_by_side(meet, range(4))) == [1] * 4
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_a_piece_raises_reaches_the_caller_and_threads_are_given_back(threads: int) -> None:
    def fail(item: int) -> int:
        raise ValueError(f"piece {item}")

    with pytest.raises(ValueError, match="piece 0"):
        list(map_side_by_side(fail, range(5)))

    assert torch.get_num_threads() == threads
