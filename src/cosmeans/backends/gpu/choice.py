"""Whether the screen begins in 8 bits (`cascade.py`): decided pass by pass, from what passes before have counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from torch import Tensor

from cosmeans.backends.gpu.kernels.launch import read_behind

SAMPLED = 16  # one of so many row tiles is counted (screen_hopper.cu)
# What 8 bits lose of a score, about, where no entry of a row is much larger than the others: a row's and a centroid's
# own loss, twice. An estimate that only decides what is tried.
CLOSE = 2 * (0.0074 + 0.0125)
LEAST_FEATURES = 256  # below, ranking the scores takes as long as products in 8 bits save
_WORTH = 0.92  # of the time of float16 alone: below, the second copy pays within a few passes
_AHEAD = 2  # passes queued while an earlier one is read


class Choice:
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
        self._counted.append((self._passes, read_behind(counts), integers))

    def pays(self, counts: list[float], integers: bool) -> bool:
        """Whether 8 bits pay, by `Doubtful.counts` of a pass in 8 bits, or of the sample in one of float16.

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
