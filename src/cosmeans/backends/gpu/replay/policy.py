"""What pays: whether epochs are captured and replayed, by a cost model; whether passes begin in 8 bits, by counting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState
from cosmeans.backends.gpu.kernels.launch import read_async
from cosmeans.backends.gpu.kernels.screen_hopper import SAMPLED

# what 8 bits lose of a score, about, where no entry of a row is much larger than the others: a row's and a centroid's
# own loss, twice. An estimate that only decides what is tried.
CLOSE = 2 * (0.0074 + 0.0125)
LEAST_FEATURES = 256  # below, ranking the scores takes as long as products in 8 bits save
_WORTH = 0.92  # of the time of float16 alone: below, the second copy pays within a few passes
_AHEAD = 2  # passes queued while an earlier one is read

SLOTS = 8  # of outcomes: those ahead, the one that is read, the one before it, and some to spare


def can_capture(state: DeviceState) -> bool:
    return state.tuning.graph is not None or (state.device.type == "cuda" and not torch.version.hip)


def captures(n: int, k: int, d: int, state: DeviceState) -> bool:
    """Whether epochs are captured: there is room for outcomes, and what is saved counts."""
    small = 4 * SLOTS * k * d <= state.tuning.most_of_outcomes
    return small and can_capture(state) and _seconds(n, k, d, state) < state.tuning.long


def plain_epochs(n: int, k: int, d: int, state: DeviceState) -> int:
    """Epochs that are started kernel by kernel, for the device to have work while the next one is captured."""
    return 0 if captures_at_once(n, k, d, state) else 1 + (_seconds(n, k, d, state) >= state.tuning.middle)


def captures_at_once(n: int, k: int, d: int, state: DeviceState) -> bool:
    """Whether epochs are captured before the first one runs: a pass takes the device less time than the host."""
    return captures(n, k, d, state) and _seconds(n, k, d, state) < state.tuning.short


def pools(n: int, k: int, d: int, entry_bytes: int, state: DeviceState) -> bool:
    """Whether n rows are few enough for a workspace that is kept for the next fit, if they come as one batch."""
    return captures_at_once(n, k, d, state) and pooled_bytes(n, k, d, entry_bytes) <= state.most_pooled


def pooled_bytes(n: int, k: int, d: int, entry_bytes: int) -> int:
    """What a pooled workspace takes, about, the copy of the rows included."""
    return n * (d * (entry_bytes + 2) + 256) + k * (d * (32 + 5 * SLOTS) + 64)


def _seconds(n: int, k: int, d: int, state: DeviceState) -> float:
    """Of a pass, about."""
    return n * (d * k * state.tuning.per_product + state.tuning.per_row)


class PrecisionPolicy:
    """Whether 8 bits come first, pass by pass: counted two passes ago, so that nothing waits for the device.

    asks  whether the pass begun last shall be counted: less and less often, as little changes later
    """

    def __init__(self, n_rows: int, n_features: int, n_clusters: int) -> None:
        self._shape = (n_rows, n_features, n_clusters)
        self._counted: deque[tuple[int, Callable[[], list[float]], bool]] = deque()
        self._integers, self._open, self._passes = False, True, 0

    @property
    def asks(self) -> bool:
        return self._passes.bit_count() == 1

    def next(self) -> bool:
        """For the next pass. Once 8 bits were tried and did not pay, float16 stays."""
        self._passes += 1
        while self._counted and self._passes - self._counted[0][0] >= _AHEAD:
            _, read, integers = self._counted.popleft()
            counts = read()
            if self._open and integers == self._integers:
                self._integers = self.pays(counts, integers)
                self._open = self._integers or not integers
        return self._integers

    def note(self, counts: Tensor, integers: bool) -> None:
        """Read the counts of the pass behind it."""
        self._counted.append((self._passes, read_async(counts), integers))

    def pays(self, counts: list[float], integers: bool) -> bool:
        """Whether 8 bits pay, by `Uncertified.counts` of a pass in 8 bits, or of the sample in one of float16.

        Of a float16 pass, counts[2] and counts[3] are the sampled rows whose second and third scores are close.
        """
        n, d, k = self._shape
        if integers:
            crowded, pairs = counts[0] / n, counts[1] / n
        else:
            sampled = max(1, n // SAMPLED)
            crowded, pairs = counts[3] / sampled, (counts[2] - counts[3]) / sampled
        # nanoseconds a row, fitted to benchmarks/results/gpu.jsonl, "real screens": products, and the ranking of
        # scores where products don't hide it; rows that are gathered and screened again, pairs that are compared
        half = d * k / 330e3
        first = 0.22 + k * 5.2e-5 + d * k / 850e3
        second = crowded * (half + d / 550) + pairs * d / 1200 + 0.1
        return first + second < _WORTH * half
