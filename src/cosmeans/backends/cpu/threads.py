"""Row ranges over threads. torch's thread count is the one knob; kernels release the GIL.

Plain threads rather than numba's parallel loops: its portable threading layer aborts the process when two
Python threads enter it at once, and users run fits side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch

_SMALLEST_SHARE = 64  # rows; below this a thread costs more than it brings


@lru_cache(maxsize=4)
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="cosmeans")


def spread(kernel: Callable[..., Any], *args: Any, size: int, smallest: int = _SMALLEST_SHARE) -> list[Any]:
    """kernel(*args, start, stop) over [0, size) cut into one range per thread; what each returned."""
    shares = max(1, min(torch.get_num_threads(), size // smallest))
    if shares == 1:
        return [kernel(*args, 0, size)]
    bounds = [size * i // shares for i in range(shares + 1)]
    pool = _pool(shares)
    futures = [pool.submit(kernel, *args, start, stop) for start, stop in pairwise(bounds[1:])]
    first = kernel(*args, bounds[0], bounds[1])
    return [first, *(future.result() for future in futures)]
