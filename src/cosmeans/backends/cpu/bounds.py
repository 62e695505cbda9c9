"""What a fit remembers of its rows from pass to pass: one bound each, and what of it is still worth.

bound_i is at least t of row i with every centroid but the one it is assigned to. Between passes it grows by the way
that a centroid moved. Where few centroids moved far, those are scored for all rows, and the rest moved so little that
the bound still proves most labels ("split": docs/proofs.md, eq. 11).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cosmeans.backends.cpu.kernels.bounds import BOUND_STEP
from cosmeans.backends.cpu.targets import lengths

# of a chord: the length of a row is up to 1 + 2^-20
_OUTWARD = 1.0 + 2.0**-18
ROW_BYTES = 8  # what is kept of a row
PANEL = 16  # columns: products are as slow as if there were a multiple of it
EACH_ROW = 48  # columns' worth of time that a row takes however few there are: to copy, to multiply, to decide
WORTH = 0.95  # a split that leaves more of the work than this is no gain


class RowBounds:
    """bound (N,) float32 and the label (N,) int32 whose centroid it leaves out."""

    def __init__(self, n_rows: int, allocate: Callable[..., np.ndarray] = np.empty) -> None:
        self.bound, self.label = allocate(n_rows, np.float32), allocate(n_rows, np.int32)
        self.bound.fill(np.inf)
        self.label.fill(-1)
        self.seen = 0
        """Rows assigned since the present pass began; a pass that was broken off leaves nothing to continue from."""
        self._centroids: np.ndarray | None = None
        self._leading: np.ndarray = np.empty(0, np.int64)

    @property
    def n_bytes(self) -> int:
        return ROW_BYTES * len(self.bound)

    def movement(self, centroids: np.ndarray, leading: np.ndarray) -> np.ndarray:
        """How far each centroid has moved since the pass before, (K,) float64, rounded up; begins a new pass.

        leading: the first of each group of equal centroids. Copies in the pass before were never scored themselves:
        they count as moved without limit, and so does everything if the pass before was not complete.
        """
        moved = np.full(len(centroids), np.inf)
        if self._centroids is not None and self.seen == len(self.bound):
            moved[self._leading] = lengths(centroids, self._centroids)[self._leading] * _OUTWARD
        self._centroids, self._leading, self.seen = centroids.copy(), leading, 0
        return moved

    def shift(self, way: float) -> None:
        """g moved by this chord: every t may have grown by as much."""
        if way > 0.0:
            self.bound += np.nextafter(np.float32(way * _OUTWARD + BOUND_STEP), np.float32(np.inf))


@dataclass(frozen=True, slots=True)
class Split:
    """The first `heavy` columns are scored for all rows; no centroid beyond them moved farther than `farthest`."""

    heavy: int
    farthest: float
    left: float
    """The part of the time that is expected to be left."""


def choose_split(moved: np.ndarray, need: np.ndarray) -> Split:
    """The split that leaves the least work for a sample of rows.

    moved  (U,) float64, descending: how far each column moved
    need   (S,) float64: how far centroids may have moved for the bound of each row to prove its label
    """
    total = len(moved)
    everything = Split(total, 0.0, 1.0)
    if len(need) == 0:
        return everything
    farthest = np.append(moved, 0.0)
    failing = np.searchsorted(np.sort(need), farthest, side="right") / len(need)  # need <= farthest: not proved
    heavy = np.arange(total + 1)
    paid = np.where(heavy == 0, 0, np.minimum(total, -(-heavy // PANEL) * PANEL) + EACH_ROW)
    whole = total + EACH_ROW
    work = np.where(np.isfinite(farthest), (paid + failing * (whole - paid)) / whole, 1.0)
    best = int(work.argmin())
    if work[best] > WORTH:
        return everything
    return Split(best, float(farthest[best]), float(work[best]))
