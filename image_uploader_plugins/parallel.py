# SPDX-License-Identifier: Apache-2.0
"""Reading much content on all cores."""

from __future__ import annotations

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def each(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[tuple[_T, _R]]:
    """Yield each item and the function's result, in order, from as many threads as cores.

    Hashing releases the interpreter's lock, so threads are enough. Takes only a
    few more items than it has yielded; ends early with the first error.
    """
    workers = len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[tuple[_T, concurrent.futures.Future[_R]]] = collections.deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > 2 * workers:
                    first, job = waiting.popleft()
                    yield first, job.result()
            for first, job in waiting:
                yield first, job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
