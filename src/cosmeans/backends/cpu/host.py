"""What the host of a fit can do: which products it has, from which size of fit a trial pays, what memory it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil

from cosmeans.backends.cpu import trials
from cosmeans.backends.cpu.kernels import fused

Pack = Callable[[np.ndarray], np.ndarray | None]


def _available() -> int:
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True, slots=True)
class Host:
    """The host as it is; tests and measurements may describe another one. Labels are the same on all.

    pack           columns as loops of ours multiply them, None where libraries multiply: `fused.packed`
    int8_is_exact  (D) -> whether 8-bit products are exact
    int8_gain      (K, D, threads) -> how many times faster than float32 they are
    worth_sample, worth_int8_trial, worth_trial
                   multiplications in a pass; for fewer, it costs more than it saves to look at rows or to try products
    allocate       as `numpy.empty`, for what is kept of rows from pass to pass
    available      () -> bytes of memory that are free
    """

    pack: Pack = fused.packed
    int8_is_exact: Callable[[int], bool] = trials.int8_is_exact
    int8_gain: Callable[[int, int, int], float] = trials.int8_gain
    worth_sample: int = 2**24
    worth_int8_trial: int = 2**30
    worth_trial: int = 2**32
    allocate: Callable[..., np.ndarray] = np.empty
    available: Callable[[], int] = _available
