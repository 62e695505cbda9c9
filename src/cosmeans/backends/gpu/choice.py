"""Whether the screen begins in 8 bits (`ladder.py`): decided pass by pass, from what passes before have counted."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

SAMPLED = 16  # one of so many row tiles is counted (hopper.cu)
# What 8 bits lose of a score, about, where no entry of a row is much larger than the others: a row's and a centroid's
# own loss, twice. An estimate that only decides what is tried.
CLOSE = 2 * (0.0074 + 0.0125)
LEAST_FEATURES = 256  # below, ranking the scores takes as long as products in 8 bits save
# nanoseconds on an H100 (benchmarks/results/gpu.jsonl, "real screens"): products of a row with a centroid by feature,
# and what a row costs that is gathered or compared, by feature
_HALF, _INTEGER, _GATHERED, _COMPARED = 1 / 360e3, 1 / 680e3, 1 / 600, 1 / 450
_WORTH = 0.92  # of the time of float16 alone: below, the second copy pays within a few passes
_AHEAD = 2  # passes queued while an earlier one is read


class Choice:
    """Whether 8 bits come first, pass by pass: counted two passes ago, so that nothing waits for the device."""

    def __init__(self, n_rows: int, n_features: int, n_clusters: int) -> None:
        self._shape = (n_rows, n_features, n_clusters)
        self._counted: deque[tuple[torch.cuda.Event, Tensor, bool]] = deque()
        self._integers, self._open = False, True

    def next(self) -> bool:
        """For the next pass. Once 8 bits were tried and did not pay, float16 stays."""
        while len(self._counted) >= _AHEAD:
            arrived, numbers, integers = self._counted.popleft()
            arrived.synchronize()
            if self._open and integers == self._integers:
                self._integers = self._open = self.pays(numbers.tolist(), integers)
                self._open |= not integers
        return self._integers

    def note(self, counts: Tensor, integers: bool) -> None:
        """Read the counts of the pass behind it."""
        numbers = torch.empty(counts.shape, dtype=counts.dtype, pin_memory=True)
        numbers.copy_(counts, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._counted.append((arrived, numbers, integers))

    def pays(self, counts: list[int], integers: bool) -> bool:
        """Whether 8 bits pay, by `Doubtful.counts` of a pass in 8 bits, or of the sample in one of float16.

        Of a float16 pass, counts[2] and counts[3] are the sampled rows whose second and third scores are close.
        """
        n, d, k = self._shape
        if integers:
            crowded, pairs = counts[0] / n, counts[1] / n
        else:
            sampled = max(1, n // SAMPLED)
            crowded, pairs = counts[3] / sampled, (counts[2] - counts[3]) / sampled
        half = d * k * _HALF
        ladder = d * k * _INTEGER + crowded * (half + d * _GATHERED) + pairs * d * _COMPARED
        return ladder < _WORTH * half
