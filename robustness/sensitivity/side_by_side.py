"""Independent linear algebra on several cores, one thread each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
MOST = 4
"""Maximum of concurrent items: each holds its matrices in memory."""


def map_side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yields function(item) in the items' order; runs as many at once as torch has threads, at most four.

    Decompositions gain little from more threads. With one thread each, their last digits do not depend on the number
    of cores. The caller's thread takes items, only as many ahead as run.

    >>> list(map_side_by_side(abs, [-2, 1, -3]))
    [2, 1, 3]
    """
    threads = torch.get_num_threads()
    workers = min(threads, MOST)
    if workers == 1:
        yield from map(function, items)
        return
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers)
    running: deque[Future[R]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
