"""Before each pass: which screen, how many columns for the rows whose bound holds. Chosen from a sample of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cosmeans.backends.cpu.bounds import RowBounds, Split, choose_split
from cosmeans.backends.cpu.budget import Budget
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.kernels.bounds import BOUND_STEP
from cosmeans.backends.cpu.kernels.types import Screened
from cosmeans.backends.cpu.screens.centred import CentredScreen
from cosmeans.backends.cpu.screens.float32 import Float32Screen
from cosmeans.backends.cpu.screens.int8 import Int8Screen, int8_bytes
from cosmeans.backends.cpu.screens.pca import Basis, PcaScreen, pca_bytes
from cosmeans.backends.cpu.screens.screen import Codes, Columns, Middle, Screen, middle_of
from cosmeans.backends.cpu.targets import Targets, lengths
from cosmeans.backends.cpu.trials import choose_gemm
from cosmeans.calls import usable_threads
from cosmeans.contracts import InspectedRows
from cosmeans.errors import BackendUnavailableError, InputError

_SAMPLE = (64, 1024)  # rows, and at most this part of all:
_SAMPLE_PART = 128
_FOLLOWED = 3  # passes in which g follows the centroids; later they move too little to matter
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
    plain   makes the screen that multiplies in float32
    """

    choose: Callable[[int, Targets, Callable[[], np.ndarray]], Screen]
    plain: Callable[[Targets], Screen]
    targets: Targets
    column: np.ndarray
    split: Split
    kept: RowBounds | None
    screen: Screen = field(init=False)
    columns: Columns = field(init=False)
    _made: bool = field(init=False, default=False)
    _of_few: Pass | None = field(init=False, default=None)

    def make_screen(self, n_rows: int, sample: Callable[[], np.ndarray]) -> None:
        """Encode the centroids for batches of so many rows, once: the first batch decides. sample: some of its rows."""
        if not self._made:
            self.screen = self.choose(n_rows, self.targets, sample)
            self.columns = self.screen.columns(self.targets)
            self._made = True

    def of_few(self) -> Pass:
        """This pass for rows that are not where they were: nothing is kept of them."""
        if self._of_few is None:
            whole = Split(len(self.targets.ids), 0.0, 1.0)
            self._of_few = Pass(lambda *_: self.plain(self.targets), self.plain, self.targets, self.column, whole, None)
        return self._of_few

    @property
    def n_clusters(self) -> int:
        return len(self.column)

    @property
    def strategy(self) -> str:
        if self.split.heavy == len(self.targets.ids):
            return self.screen.name
        return f"{self.screen.name}, split at {self.split.heavy}"

    @property
    def kept_bytes(self) -> int:
        screen = self.screen.kept_bytes if self._made else 0
        return screen + (0 if self.kept is None else self.kept.n_bytes)

    def screened(self, codes: Codes, width: int) -> Screened:
        """What products of these rows with the first columns say."""
        factor, bias, widths = (
            None if part is None else part[:width]
            for part in (self.columns.factor, self.columns.bias, self.columns.width)
        )
        return Screened(factor, bias, widths, codes.scale, codes.tail, codes.slack)

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


@dataclass(slots=True)
class _Fit:
    """What one fit has found of its rows: a sample of them (its indices, and (S, D) float32), bounds, directions."""

    rows: InspectedRows
    budget: Budget
    index: np.ndarray
    sample: np.ndarray
    bounds: RowBounds | None = None
    basis: Basis | None = None

    def room(self) -> int:
        """Bytes that may be kept in addition to the bounds."""
        return self.budget.left(self.bounds is not None)


class Strategy:
    """Chooses how each pass of one fit (or one predict) is done. Every choice gives the same labels.

    name "float32" is the plain path, "split" adds the bounds, "pca" and "int8" have them too and multiply a
    part of the coordinates, or in 8 bits.
    """

    def __init__(self, name: str, memory_limit: int | None, host: Host) -> None:
        self.name, self.memory_limit, self.host = name, memory_limit, host
        self._fit: _Fit | None = None
        self._screens: dict[str, Screen] = {}
        self._middle: Middle | None = None
        self._origin: np.ndarray | None = None
        self._passes = 0

    def begin(self, rows: InspectedRows) -> None:
        """A fit over these rows starts. Copies of rows that an earlier one made are kept, bounds are not."""
        budget = Budget.of(self.name, self.memory_limit, rows, self.host)
        if self._fit is None or rows is not self._fit.rows:
            self._screens.clear()
            size = min(rows.n_rows, max(_SAMPLE[0], min(_SAMPLE[1], rows.n_rows // _SAMPLE_PART)))
            self._fit = _Fit(rows, budget, *_measured(rows, size))
            self._middle = Middle.of(self._fit.sample)
        self._screens.pop("float32", None)  # its check of precision must be as fresh as the fit
        self._fit.budget, self._fit.bounds = budget, self._bounds(budget)
        self._passes, self._origin = 0, None

    def next_pass(self, centroids: np.ndarray) -> Pass:
        """The pass that assigns rows to these centroids. Raises InputError where they are not finite."""
        leading, first = equals_of(centroids)
        origin, moved = self._movement(centroids, leading)
        ids = leading[np.argsort(-moved[leading], kind="stable")].astype(np.int32)
        column = np.empty(len(centroids), np.int32)
        column[ids] = np.arange(len(ids), dtype=np.int32)
        column = column[first]
        targets = Targets.of(centroids, ids, origin)
        if not np.isfinite(targets.error):
            raise InputError(
                f"Centroid {_first_bad(centroids)} contains NaN or infinity, so nothing can be compared with it. "
                "Centroids must be finite: set `centers` to such, or call reset() and fit."
            )
        split = self._split(moved[ids], column, targets)
        self._passes += 1
        kept = None if self._fit is None else self._fit.bounds
        return Pass(self.screen, self._plain, targets, column, split, kept)

    def screen(self, n_rows: int, targets: Targets, sample: Callable[[], np.ndarray]) -> Screen:
        """The screen for batches of so many rows against these columns; sample: some rows of the first batch."""
        size = max(n_rows, self._fit.rows.n_rows if self._fit else 0) * targets.shifted.size
        if self._fit is None:
            worth = size >= self.host.worth_sample
            self._middle = Middle.of(sample() if worth else targets.shifted[:0])
        name = self._choose(size, targets)
        if name not in self._screens:
            self._screens[name] = self._make(name, size, targets)
        return self._screens[name]

    def _choose(self, size: int, targets: Targets) -> str:
        """The name of the screen for a pass of so many multiplications."""
        if self.name == "int8":
            return "int8"
        if self.name == "pca":
            return "pca" if self._fit else "float32"  # one pass does not repay coordinates for every row
        if self.name != "auto" or size < self.host.worth_int8_trial:
            return "float32"
        if self.host.int8_gain(*_shape(targets), usable_threads()) > _INT8_GAIN:
            return "int8"
        return "pca" if size >= self.host.worth_trial and self._pca_pays(targets) else "float32"

    def _make(self, name: str, size: int, targets: Targets) -> Screen:
        assert self._middle is not None
        n_clusters, n_features = _shape(targets)
        middle, pack = self._middle, self.host.pack
        if name == "int8":
            if not self.host.int8_is_exact(n_features):
                raise BackendUnavailableError(
                    'strategy="int8" needs exact products of 8-bit integers, which torch does not compute on this '
                    'processor. Pass strategy="auto".'
                )
            kept = min(self._fit.rows.n_rows, self._fit.room() // int8_bytes(n_features)) if self._fit else 0
            return Int8Screen(middle.vector, kept, pack, self.host.allocate)
        trial = size >= self.host.worth_trial and pack(targets.shifted[:1]) is None  # ours is faster than both (Zen 4)
        if name == "pca":
            assert self._fit is not None
            try:
                return self._pca_screen(self._fit, n_clusters, trial)
            except MemoryError as cause:
                raise self._fit.budget.refused() from cause
        product = choose_gemm(n_clusters, n_features, trial)
        return CentredScreen(product, middle.vector, pack) if middle.leans else Float32Screen(product, pack)

    def _plain(self, targets: Targets) -> Screen:
        return Float32Screen(choose_gemm(*_shape(targets), trial=False), self.host.pack)

    def _pca_screen(self, fit: _Fit, n_clusters: int, trial: bool) -> PcaScreen:
        if fit.basis is None:
            fit.basis = Basis.of(_measured(fit.rows, _BASIS_ROWS)[1], self.host.pack)
        product = choose_gemm(n_clusters, fit.basis.directions.shape[1], trial)
        return PcaScreen(product, fit.basis, fit.rows.n_rows, self.host.allocate)

    def _pca_pays(self, targets: Targets) -> bool:
        """Whether principal directions leave so little of a sample that they are worth it; once yes, for good."""
        if "pca" in self._screens:
            return True
        fit, (n_clusters, n_features) = self._fit, _shape(targets)
        if fit is None or len(fit.sample) == 0 or self._passes not in _PCA_PASSES:
            return False
        if n_clusters < _PCA_LEAST[0] or n_features < _PCA_LEAST[1] or (self._middle and self._middle.leans):
            return False
        if pca_bytes(n_features) * fit.rows.n_rows > fit.room():
            return False
        try:
            screen = self._pca_screen(fit, n_clusters, self.host.pack(targets.shifted[:1]) is None)
        except MemoryError:
            return False
        if screen.reached(fit.sample, targets) > _PCA_REACHED:
            return False
        self._screens["pca"] = screen
        return True

    def _bounds(self, budget: Budget) -> RowBounds | None:
        """Room for the bounds of all rows; None where there is none, unless they were asked for."""
        if not budget.bounded:
            return None
        try:
            return RowBounds(budget.n_rows, self.host.allocate)
        except MemoryError as cause:
            if budget.needs_rows:
                raise budget.refused() from cause
            return None

    def _movement(self, centroids: np.ndarray, leading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g, and how far each centroid moved, infinite without bounds; g follows the centroids in the first passes."""
        kept = self._fit.bounds if self._fit else None
        origin = self._origin
        if self._passes < _FOLLOWED or origin is None or self._fit is None:
            before, origin = origin, middle_of(centroids)
            if before is not None and kept is not None:
                kept.shift(float(lengths(origin[None], before[None])[0]))
        self._origin = origin
        return origin, np.full(len(centroids), np.inf) if kept is None else kept.movement(centroids, leading)

    def _split(self, moved: np.ndarray, column: np.ndarray, targets: Targets) -> Split:
        fit = self._fit
        if fit is None or fit.bounds is None or not np.isfinite(moved).any():
            return Split(len(moved), 0.0, 1.0)
        labels, bound = fit.bounds.label[fit.index], fit.bounds.bound[fit.index]
        used = labels >= 0
        assigned = np.einsum("ij,ij->i", fit.sample[used], targets.shifted[column[labels[used]]])
        return choose_split(moved, assigned - targets.error - BOUND_STEP - bound[used])


def _shape(targets: Targets) -> tuple[int, int]:
    """Columns and features."""
    return len(targets.ids), targets.shifted.shape[1]


def _measured(rows: InspectedRows, size: int) -> tuple[np.ndarray, np.ndarray]:
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
