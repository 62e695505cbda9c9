"""Before each pass: which screen, how many columns for the rows whose bound holds. Chosen from a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
import torch

from cosmeans.backends.cpu import decide
from cosmeans.backends.cpu.bounds import RowBounds, Split, choose_split
from cosmeans.backends.cpu.gemm import int8_gain
from cosmeans.backends.cpu.screens import (
    Columns,
    Float32Screen,
    Int8Screen,
    Screen,
    dot_error,
    longest,
    middle_of,
    product,
)
from cosmeans.contracts import RowSource

STRATEGIES = ("auto", "float32", "split", "int8")
_BOUND_BYTES = 8  # a row
_SAMPLE = (64, 1024)  # rows, and at most this part of all:
_SAMPLE_PART = 128
_DOT = 3.0  # what a single dot product costs, in dot products of a large product; more beyond the cache
_CACHE = 8 << 20
_FIRST_PASSES = 3  # g follows the centroids while they move far, then stays


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass needs of its centroids. Columns are the distinct centroids, those that moved most first.

    centroids (K, D); index (U,): which centroid each column is, the first of its equals; column (K,): the reverse
    shifted   (U, D) float32: fl(c - g); error: of a float32 dot product with them
    """

    centroids: np.ndarray
    index: np.ndarray
    column: np.ndarray
    shifted: np.ndarray
    error: float
    screen: Screen
    columns: Columns
    split: Split
    kept: RowBounds | None

    @property
    def strategy(self) -> str:
        if self.split.heavy == len(self.index):
            return self.screen.name
        return f"{self.screen.name}, split at {self.split.heavy}"

    def factors(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.columns.factor[:width], self.columns.bias[:width], self.columns.width[:width]

    def bounds(self, span: slice, before: np.ndarray) -> np.ndarray:
        """Bounds of these rows, to be read and written; infinite where they belong to another label."""
        if self.kept is None:
            return np.full(len(before), np.inf, np.float32)
        bound = self.kept.bound[span]
        bound[self.kept.label[span] != before] = np.inf
        return bound

    def remember(self, span: slice, labels: np.ndarray) -> None:
        if self.kept is not None:
            self.kept.label[span] = labels
            self.kept.seen += len(labels)


class Strategies:
    """Chooses how each pass of one fit (or one predict) is done. Every choice gives the same labels."""

    def __init__(self, strategy: str, memory_limit: int | None) -> None:
        self.strategy, self.memory_limit = strategy, memory_limit
        self._rows: RowSource | None = None
        self._kept: RowBounds | None = None
        self._screens: dict[str, Screen] = {}
        self._sample = self._index = None
        self._origin: np.ndarray | None = None
        self._passes = 0

    def begin(self, rows: RowSource) -> None:
        """A fit over these rows starts. Copies of rows that an earlier one made are kept, bounds are not."""
        if rows is not self._rows:
            self._screens.clear()
            self._rows = rows
            size = min(rows.n_rows, max(_SAMPLE[0], min(_SAMPLE[1], rows.n_rows // _SAMPLE_PART)))
            self._index = np.linspace(0, rows.n_rows - 1, size).astype(np.int64)
            self._sample = rows.take(torch.from_numpy(self._index)).numpy()
        self._screens.pop("float32", None)  # its check of precision must be as fresh as the fit
        allowed = self._allowed()
        self._kept = RowBounds(rows.n_rows) if self.strategy != "float32" and allowed >= _BOUND_BYTES else None
        self._passes = 0

    def _allowed(self) -> float:
        """Bytes that may be kept of each row."""
        if self._rows is None:
            return 0.0
        limit = psutil.virtual_memory().available // 2 if self.memory_limit is None else self.memory_limit
        return limit / self._rows.n_rows

    def next_pass(self, centroids: np.ndarray) -> Pass:
        leading = first_of_equals(centroids)
        moved = self._movement(centroids, leading)
        order = np.argsort(-moved[leading], kind="stable")
        index = leading[order].astype(np.int32)
        column = columns_of(centroids, index, leading)
        shifted = np.ascontiguousarray(centroids[index] - self._origin)
        error = dot_error(shifted.shape[1], longest(shifted))
        split = self._split(moved[index], column, shifted, index, error)
        screen, columns = self._screen(shifted, centroids)
        self._passes += 1
        return Pass(centroids, index, column, shifted, error, screen, columns, split, self._kept)

    def _movement(self, centroids: np.ndarray, leading: np.ndarray) -> np.ndarray:
        """How far each centroid moved, infinite without bounds; g follows the centroids in the first passes."""
        if self._passes < _FIRST_PASSES or self._origin is None or self._rows is None:
            before, self._origin = self._origin, middle_of(centroids)
            if before is not None and self._kept is not None:
                self._kept.shift(longest((self._origin - before)[None]))
        if self._kept is None:
            return np.full(len(centroids), np.inf)
        return self._kept.movement(centroids, leading)

    def _split(
        self, moved: np.ndarray, column: np.ndarray, shifted: np.ndarray, index: np.ndarray, error: float
    ) -> Split:
        if self._kept is None or not np.isfinite(moved).any():
            return Split(len(index), 0.0, 1.0)
        labels, bound = self._kept.label[self._index], self._kept.bound[self._index]
        used = labels >= 0
        own = np.einsum("ij,ij->i", self._sample[used], shifted[column[labels[used]]])
        return choose_split(moved, own - error - decide.STEP - bound[used])

    def _screen(self, shifted: np.ndarray, centroids: np.ndarray) -> tuple[Screen, Columns]:
        name = self.strategy
        if name == "auto":
            name = "int8" if int8_gain(*shifted.shape, torch.get_num_threads()) > 1.3 else "float32"
        screen = self._make(name, shifted)
        return screen, screen.columns(shifted)

    def _make(self, name: str, shifted: np.ndarray) -> Screen:
        n_clusters, n_features = shifted.shape
        if name not in ("int8",):
            name = "float32"
        if name not in self._screens:
            if name == "float32":
                self._screens[name] = Float32Screen(n_clusters, n_features)
            elif self._rows is None or self._sample is None:
                self._screens[name] = Int8Screen(np.zeros(n_features, np.float32), 0, False)
            else:
                fits = self._allowed() >= n_features + 12 + _BOUND_BYTES
                self._screens[name] = Int8Screen(middle_of(self._sample), self._rows.n_rows, fits)
        return self._screens[name]


def first_of_equals(centroids: np.ndarray) -> np.ndarray:
    """Indices of the first of each group of bitwise equal centroids, ascending.

    Copies can't win against the first (ties go to the lowest index), and would leave every one of their rows
    uncertain.
    """
    content = np.ascontiguousarray(centroids).view(np.dtype((np.void, centroids.shape[1] * 4)))[:, 0]
    return np.sort(np.unique(content, return_index=True)[1])


def columns_of(centroids: np.ndarray, index: np.ndarray, leading: np.ndarray) -> np.ndarray:
    """Column of each centroid, (K,) int32: that of the first of its equals."""
    column = np.full(len(centroids), -1, np.int32)
    column[index] = np.arange(len(index), dtype=np.int32)
    if len(index) < len(centroids):
        first = {centroids[j].tobytes(): j for j in leading}
        for j in np.flatnonzero(column < 0):
            column[j] = column[first[centroids[j].tobytes()]]
    return column
