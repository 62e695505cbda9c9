"""Work over threads. torch's thread count is the one setting (`calls.usable_threads`); kernels release the GIL.

Plain threads rather than numba's parallel loops: its portable threading layer aborts the process when two
Python threads enter it at once, and users run fits side by side.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import torch

from cosmeans import calls
from cosmeans.calls import usable_threads

_SMALLEST_SHARE = 64  # rows; below this a thread costs more than it brings
_POOLS = 4
T = TypeVar("T")
R = TypeVar("R")


class Pools:
    """Threads of this process in which torch uses one core, one pool for each number of them; and their memory."""

    def __init__(self) -> None:
        self._lock = calls.Lock()
        self._pools: OrderedDict[int, ThreadPoolExecutor] = OrderedDict()
        self._memory = threading.local()

    def of(self, workers: int) -> ThreadPoolExecutor:
        """The pool of so many threads, made if need be; the one used least recently goes."""
        with self._lock:
            if workers not in self._pools:
                self._pools[workers] = _make_pool(workers)
            self._pools.move_to_end(workers)
            while len(self._pools) > _POOLS:
                self._pools.popitem(last=False)
            return self._pools[workers]

    def scratch(self, values: int) -> np.ndarray:
        """Memory of this thread, used again and again: 4 bytes a value."""
        if getattr(self._memory, "values", np.empty(0)).size < values:
            self._memory.values = np.empty(values, np.float32)
        held: np.ndarray = self._memory.values
        return held

    def forget(self) -> None:
        """Threads don't survive a fork."""
        self._pools.clear()


_POOL = Pools()
scratch = _POOL.scratch


def spread(kernel: Callable[..., R], *args: Any, size: int, smallest: int = _SMALLEST_SHARE) -> list[R]:
    """kernel(*args, start, stop) over [0, size) cut into one range per thread; what each returned."""
    shares = max(1, min(usable_threads(), size // smallest))
    if shares == 1:
        return [kernel(*args, 0, size)]
    bounds = [size * i // shares for i in range(shares + 1)]
    pool = _POOL.of(shares)
    futures = [pool.submit(kernel, *args, start, stop) for start, stop in pairwise(bounds[1:])]
    first = kernel(*args, bounds[0], bounds[1])
    return [first, *(future.result() for future in futures)]


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """work(item) for every item, shared out to threads in which torch uses one core each; in no order.

    One thread multiplies while another looks at what it multiplied: no step waits for the memory alone.
    """
    remaining = iter(list(items))
    taking = threading.Lock()

    def take_turns(_: int) -> list[R]:
        done: list[R] = []
        while True:
            with taking:
                item = next(remaining, None)
            if item is None:
                return done
            done.append(work(item))

    workers = usable_threads()
    if workers == 1:
        return take_turns(0)
    return [result for part in _POOL.of(workers).map(take_turns, range(workers)) for result in part]


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)
