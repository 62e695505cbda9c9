"""Work over threads. torch's thread count is the one knob (`calls.usable_threads`); kernels release the GIL.

Plain threads rather than numba's parallel loops: its portable threading layer aborts the process when two
Python threads enter it at once, and users run fits side by side.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from threading import Barrier
from typing import Any, TypeVar

import torch

from cosmeans import calls
from cosmeans.calls import usable_threads

_SMALLEST_SHARE = 64  # rows; below this a thread costs more than it brings
T = TypeVar("T")
_making = calls.Lock()
_compiling = calls.Lock()


def spread(kernel: Callable[..., Any], *args: Any, size: int, smallest: int = _SMALLEST_SHARE) -> list[Any]:
    """kernel(*args, start, stop) over [0, size) cut into one range per thread; what each returned.

    A kernel is compiled by its first call: on no rows, one thread at a time. Two at once have been seen to fail.
    """
    with _compiling:
        kernel(*args, 0, 0)
    shares = max(1, min(usable_threads(), size // smallest))
    if shares == 1:
        return [kernel(*args, 0, size)]
    bounds = [size * i // shares for i in range(shares + 1)]
    pool = _pool(shares)
    futures = [pool.submit(kernel, *args, start, stop) for start, stop in pairwise(bounds[1:])]
    first = kernel(*args, bounds[0], bounds[1])
    return [first, *(future.result() for future in futures)]


def each(work: Callable[[T], Any], items: Iterable[T]) -> list[Any]:
    """work(item) for every item, shared out to threads in which torch uses one core each; in no order.

    One thread multiplies while another looks at what it multiplied: no step waits for the memory alone.
    """
    remaining = iter(list(items))
    taking = threading.Lock()

    def take_turns(_: int) -> list[Any]:
        done: list[Any] = []
        while True:
            with taking:
                item = next(remaining, None)
            if item is None:
                return done
            done.append(work(item))

    workers = usable_threads()
    if workers == 1:
        return take_turns(0)
    return [result for part in _pool(workers).map(take_turns, range(workers)) for result in part]


def _pool(workers: int) -> ThreadPoolExecutor:
    with _making:
        return _make_pool(workers)


@lru_cache(maxsize=4)
def _make_pool(workers: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one core. Setting it in a thread also sets what later threads start with, so
    the caller's number is set again."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cosmeans")
    together = Barrier(workers)  # makes sure that every thread of the pool runs this once

    def settle_down(_: int) -> None:
        together.wait()
        torch.get_num_threads()  # torch sets a thread up at the first question, which would undo what follows
        torch.set_num_threads(1)

    list(pool.map(settle_down, range(workers)))
    torch.set_num_threads(before)
    return pool


if hasattr(os, "register_at_fork"):  # threads don't survive a fork
    os.register_at_fork(after_in_child=_make_pool.cache_clear)
