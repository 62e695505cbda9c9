"""Before each pass: which screen, how many columns for the rows whose bound holds. Chosen from a sample of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import psutil

from cosmeans.backends.cpu import decide, fused
from cosmeans.backends.cpu.bounds import ROW_BYTES, RowBounds, Split, choose_split
from cosmeans.backends.cpu.gemm import Product, choose_gemm, int8_gain, int8_is_exact
from cosmeans.backends.cpu.pca import Basis, PcaScreen, pca_bytes
from cosmeans.backends.cpu.screens import (
    CentredScreen,
    Columns,
    Float32Screen,
    Int8Screen,
    Middle,
    Screen,
    int8_bytes,
    middle_of,
)
from cosmeans.backends.cpu.targets import Targets, lengths
from cosmeans.calls import usable_threads
from cosmeans.contracts import RowSource
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError, InputError, OptionError

_SAMPLE = (64, 1024)  # rows, and at most this part of all:
_SAMPLE_PART = 128
_FOLLOWED = 3  # passes in which g follows the centroids; later they move too little to matter
# kept beside the rows by default: a quarter of their size less what a process needs anyway, or so much
_KEPT_SHARE, _NEEDED_ANYWAY, _KEPT_FREELY = 4, 600 << 20, 128 << 20
# multiplications in a pass; for fewer, a trial costs more than the best product saves
_WORTH_A_SAMPLE, _WORTH_INT8_TRIAL, _WORTH_A_TRIAL = 2**24, 2**30, 2**32
_INT8_GAIN = 1.3  # what int8 must gain: its bounds are looser, and rows have to be encoded
_BASIS_ROWS = 8192
_PCA_PASSES = range(1, 5)  # the passes (1 is the first) before which principal directions are tried
_PCA_LEAST = (256, 128)  # clusters, features: below, its products are too narrow to be fast
# of all products; to make one of them in full costs three times as much as all its neighbours, and with more of
# them nothing is gained. No trial: after other products, a few milliseconds measure threads that still wait awake
_PCA_REACHED = 0.1


@dataclass(slots=True)
class Pass:
    """What one pass needs of its centroids. Columns are the distinct centroids, those that moved most first.

    column  (K,): the column of each centroid, or of its first equal
    """

    choose: Callable[[int, Targets, Callable[[], np.ndarray]], Screen]
    targets: Targets
    column: np.ndarray
    split: Split
    kept: RowBounds | None
    screen: Screen = field(init=False)
    columns: Columns = field(init=False)
    _made: bool = field(init=False, default=False)

    def make_screen(self, n_rows: int, sample: Callable[[], np.ndarray]) -> None:
        """Encode the centroids for batches of so many rows, once: the first batch decides. sample: some of its rows."""
        if not self._made:
            self.screen = self.choose(n_rows, self.targets, sample)
            self.columns = self.screen.columns(self.targets)
            self._made = True

    @property
    def strategy(self) -> str:
        if self.split.heavy == len(self.targets.ids):
            return self.screen.name
        return f"{self.screen.name}, split at {self.split.heavy}"

    @property
    def kept_bytes(self) -> int:
        screen = self.screen.kept_bytes if self._made else 0
        return screen + (0 if self.kept is None else self.kept.n_bytes)

    def factors(self, width: int) -> tuple[np.ndarray | None, ...]:
        """factor, bias and width of the first columns."""
        parts = (self.columns.factor, self.columns.bias, self.columns.width)
        return tuple(None if part is None else part[:width] for part in parts)

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
    """Chooses how each pass of one fit (or one predict) is done. Every choice gives the same labels.

    strategy "float32" is the plain path, "split" adds the bounds, "pca" and "int8" have them too and multiply a
    part of the coordinates, or in 8 bits.
    """

    def __init__(self, strategy: str, memory_limit: int | None) -> None:
        self.strategy, self.memory_limit = strategy, memory_limit
        self._rows: RowSource | None = None
        self._kept: RowBounds | None = None
        self._screens: dict[str, Screen] = {}
        self._basis: Basis | None = None
        self._sample = np.empty((0, 0), np.float32)
        self._index = np.empty(0, np.int64)
        self._middle = Middle.of(self._sample)
        self._origin: np.ndarray | None = None
        self._passes = 0

    def begin(self, rows: RowSource) -> None:
        """A fit over these rows starts. Copies of rows that an earlier one made are kept, bounds are not."""
        if rows is not self._rows:
            self._screens.clear()
            self._rows, self._basis = rows, None
            size = min(rows.n_rows, max(_SAMPLE[0], min(_SAMPLE[1], rows.n_rows // _SAMPLE_PART)))
            self._index, self._sample = _measured(rows, size)
            self._middle = Middle.of(self._sample)
        self._screens.pop("float32", None)  # its check of precision must be as fresh as the fit
        self._refuse_without_room(rows)
        bounded = self.strategy != "float32" and self._allowed() >= ROW_BYTES * rows.n_rows
        self._kept = self._bounds(rows.n_rows) if bounded else None
        self._passes, self._origin = 0, None

    def _bounds(self, n_rows: int) -> RowBounds | None:
        """Room for the bounds of all rows; None where there is none, unless they were asked for."""
        try:
            return RowBounds(n_rows)
        except MemoryError as cause:
            if self._needs_rows():
                raise self._without_memory() from cause
            return None

    def next_pass(self, centroids: np.ndarray) -> Pass:
        leading, first = equals_of(centroids)
        moved = self._movement(centroids, leading)
        index = leading[np.argsort(-moved[leading], kind="stable")].astype(np.int32)
        column = np.empty(len(centroids), np.int32)
        column[index] = np.arange(len(index), dtype=np.int32)
        column = column[first]
        assert self._origin is not None
        targets = Targets.of(centroids, index, self._origin)
        if not np.isfinite(targets.error):
            raise InputError(
                f"Centroid {_first_bad(centroids)} contains NaN or infinity, so nothing can be compared with it. "
                "Centroids must be finite: set `centers` to such, or call reset() and fit."
            )
        split = self._split(moved[index], column, targets.shifted, targets.error)
        self._passes += 1
        return Pass(self.screen, targets, column, split, self._kept)

    def screen(self, n_rows: int, targets: Targets, sample: Callable[[], np.ndarray]) -> Screen:
        """The screen for batches of so many rows against these columns; sample: some rows of the first batch."""
        n_clusters, n_features = targets.shifted.shape
        size = max(n_rows, self._rows.n_rows if self._rows else 0) * targets.shifted.size
        trial = size >= _WORTH_A_TRIAL and not fused.multiplies_floats()  # faster than both (Zen 4)
        if self._rows is None:
            self._middle = Middle.of(sample() if size >= _WORTH_A_SAMPLE else np.empty((0, n_features), np.float32))
        name = self._name(size, targets)
        if name == "int8" and not int8_is_exact(n_features):
            raise BackendUnavailableError(
                'strategy="int8" needs exact products of 8-bit integers, which torch does not compute on this '
                'processor. Pass strategy="auto".'
            )
        if name not in self._screens:
            if name == "int8":
                self._screens[name] = self._int8_screen(n_features)
            elif name == "pca":
                self._screens[name] = self._asked_pca_screen(n_clusters, trial)
            else:
                self._screens[name] = self._float32_screen(choose_gemm(n_clusters, n_features, trial))
        return self._screens[name]

    def _float32_screen(self, product: Product) -> Screen:
        middle = self._middle
        return CentredScreen(product, middle.vector) if middle.leans else Float32Screen(product)

    def _name(self, size: int, targets: Targets) -> str:
        if self.strategy == "int8":
            return "int8"
        if self.strategy == "pca":
            return "pca" if self._rows else "float32"  # one pass does not repay coordinates for every row
        if self.strategy != "auto" or size < _WORTH_INT8_TRIAL:
            return "float32"
        if int8_gain(len(targets.shifted), targets.shifted.shape[1], usable_threads()) > _INT8_GAIN:
            return "int8"
        pays = size >= _WORTH_A_TRIAL and not self._middle.leans and self._pca_pays(targets)
        return "pca" if pays else "float32"

    def _int8_screen(self, n_features: int) -> Int8Screen:
        middle = self._middle.vector
        if self._rows is None:
            return Int8Screen(middle, 0)
        return Int8Screen(middle, min(self._rows.n_rows, self._room() // int8_bytes(n_features)))

    def _pca_screen(self, n_clusters: int, trial: bool) -> PcaScreen:
        rows = self._rows
        assert rows is not None
        if self._basis is None:
            self._basis = Basis.of(_measured(rows, _BASIS_ROWS)[1])
        product = choose_gemm(n_clusters, self._basis.directions.shape[1], trial)
        return PcaScreen(product, self._basis, rows.n_rows)

    def _asked_pca_screen(self, n_clusters: int, trial: bool) -> PcaScreen:
        try:
            return self._pca_screen(n_clusters, trial)
        except MemoryError as cause:
            raise self._without_memory() from cause

    def _pca_pays(self, targets: Targets) -> bool:
        """Whether principal directions leave so little of a sample that they are worth it; once yes, for good."""
        if "pca" in self._screens:
            return True
        n_clusters, n_features = targets.shifted.shape
        if len(self._sample) == 0 or self._passes not in _PCA_PASSES:
            return False
        if n_clusters < _PCA_LEAST[0] or n_features < _PCA_LEAST[1]:
            return False
        assert self._rows is not None
        if pca_bytes(n_features) * self._rows.n_rows > self._room():
            return False
        try:
            screen = self._pca_screen(n_clusters, not fused.multiplies_floats())
        except MemoryError:
            return False
        if screen.reached(self._sample, targets) > _PCA_REACHED:
            return False
        self._screens["pca"] = screen
        return True

    def _refuse_without_room(self, rows: RowSource) -> None:
        """A strategy that was asked for keeps what it needs, or says that it can't."""
        if self._needs_rows() and self._bytes_of(rows) > self._allowed():
            raise OptionError(
                f'{self._told_need(rows)}; memory_limit allows {self._allowed():,}. Raise it, or pass strategy="auto".'
            )

    def _needs_rows(self) -> bool:
        """Whether the strategy that was asked for has to keep something of all rows."""
        return self.strategy in ("split", "pca")

    def _bytes_of(self, rows: RowSource) -> int:
        each = ROW_BYTES + (pca_bytes(rows.n_features) if self.strategy == "pca" else 0)
        return each * rows.n_rows

    def _told_need(self, rows: RowSource) -> str:
        needed = self._bytes_of(rows)
        return f'strategy="{self.strategy}" keeps {needed // rows.n_rows} bytes a row, {needed:,} in all'

    def _without_memory(self) -> DeviceMemoryError:
        assert self._rows is not None
        return DeviceMemoryError(
            f"{self._told_need(self._rows)}; memory_limit allows that, but the system has no room for it. Free memory, "
            'or pass strategy="auto", which keeps what there is room for.'
        )

    def _allowed(self) -> int:
        """Bytes that may be kept of the rows."""
        if self.memory_limit is not None:
            return self.memory_limit
        if self._rows is None:
            return 0
        freely = max(self._rows.n_bytes // _KEPT_SHARE - _NEEDED_ANYWAY, _KEPT_FREELY)
        return min(freely, psutil.virtual_memory().available // 2)

    def _room(self) -> int:
        """Bytes that are left beside the bounds."""
        return max(0, self._allowed() - (0 if self._kept is None else self._kept.n_bytes))

    def _movement(self, centroids: np.ndarray, leading: np.ndarray) -> np.ndarray:
        """How far each centroid moved, infinite without bounds; g follows the centroids in the first passes."""
        if self._passes < _FOLLOWED or self._origin is None or self._rows is None:
            before, self._origin = self._origin, middle_of(centroids)
            if before is not None and self._kept is not None:
                self._kept.shift(float(lengths(self._origin[None], before[None])[0]))
        if self._kept is None:
            return np.full(len(centroids), np.inf)
        return self._kept.movement(centroids, leading)

    def _split(self, moved: np.ndarray, column: np.ndarray, shifted: np.ndarray, error: float) -> Split:
        if self._kept is None or not np.isfinite(moved).any():
            return Split(len(moved), 0.0, 1.0)
        labels, bound = self._kept.label[self._index], self._kept.bound[self._index]
        used = labels >= 0
        own = np.einsum("ij,ij->i", self._sample[used], shifted[column[labels[used]]])
        return choose_split(moved, own - error - decide.STEP - bound[used])


def _measured(rows: RowSource, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Some rows that speak for all, (S,) indices and (S, D): kept ones, and finite even if rows changed since."""
    index = rows.spread(size)
    sample: np.ndarray = rows.take(index).numpy()
    finite = np.isfinite(sample).all(axis=1)
    return index.numpy()[finite], sample[finite]


def _first_bad(centroids: np.ndarray) -> int:
    return int(np.isfinite(centroids).all(axis=1).argmin())


def equals_of(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first of each group of bitwise equal centroids, ascending, and (K,) that of each one's group.

    Copies can't win against the first (ties go to the lowest index), and would leave every one of their rows
    uncertain.
    """
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault(row.tobytes(), j) for j, row in enumerate(centroids)])
    return np.flatnonzero(first == np.arange(len(first))), first
