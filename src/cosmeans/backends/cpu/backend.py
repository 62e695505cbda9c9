"""Assign and accumulate on the CPU; `backends/reference.py` is the meaning of every function here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu import kernels
from cosmeans.backends.cpu.gemm import Gemm, choose_gemm
from cosmeans.backends.cpu.threads import spread
from cosmeans.contracts import RowSource
from cosmeans.data import NO_LABEL, Assignment, Batch, ClusterSums

_TILE_BYTES = 8 << 20  # float32 scores of one tile: stays in the shared cache between product and certificate
_TILE_ROWS = 64  # fewer rows make the product slow, however many centroids


@dataclass(frozen=True, slots=True)
class Prepared:
    """centroids (K, D); distinct (U, D): the first of each group of equals; index (U,): which those are."""

    centroids: np.ndarray
    distinct: np.ndarray
    index: np.ndarray
    gemm: Gemm


class CpuBackend:
    """Screens tiles of rows with a float32 product, proves most labels, settles the rest (docs/algorithm.md, 3)."""

    name = "cpu"
    lookahead = 0

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self._scratch = np.empty(0, np.float32)
        self._gemm: dict[tuple[int, int], Gemm] = {}

    def squared_norms(self, rows: Tensor) -> Tensor:
        out = torch.empty(rows.shape[0], dtype=torch.float64)
        spread(kernels.squared_norms, _float32(rows), out.numpy(), size=len(out))
        return out

    def begin(self, rows: RowSource) -> None:
        """The plain screen keeps nothing between passes but its working memory."""
        self._gemm.clear()

    def prepare(self, centroids: Tensor) -> Prepared:
        wide = np.ascontiguousarray(centroids.numpy())
        index = first_of_equals(wide)
        distinct = wide if len(index) == len(wide) else wide[index]
        return Prepared(wide, distinct, index.astype(np.int32), self._product(distinct))

    def assign(self, batch: Batch, prepared: Prepared, before: Tensor) -> Assignment:
        labels = torch.empty(len(batch), dtype=torch.int32)
        settled = 0
        tile = max(_TILE_ROWS, _TILE_BYTES // (4 * len(prepared.distinct)))
        for start in range(0, len(batch), tile):
            span = slice(start, start + tile)
            settled += self._assign_tile(batch, span, prepared, labels[span].numpy())
        return Assignment(labels, settled)

    def _assign_tile(self, batch: Batch, span: slice, prepared: Prepared, labels: np.ndarray) -> int:
        rows = _unit(batch, span)
        keep = _keep(batch, span)
        if len(prepared.distinct) == 1:
            labels[:] = np.where(keep, prepared.index[0], NO_LABEL)
            return 0
        screen = self._tile(len(rows), len(prepared.distinct))
        prepared.gemm(rows, prepared.distinct, screen)
        slack = 2.0 * sphere.screen_error(rows.shape[1]) * (1.0 + 2.0**-20)
        counts = spread(
            kernels.certify,
            *(screen, rows, prepared.centroids, prepared.index, keep, slack, labels),
            size=len(rows),
        )
        return int(sum(counts))

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
        old, new = before.numpy(), after.numpy()
        changed = np.flatnonzero(old != new)
        if len(changed) == 0:
            return 0
        rows, norms, weights = _gathered(batch, changed)
        spread(
            kernels.move,
            *(rows, norms, weights, changed, old, new, into.scale, into.direction.numpy()),
            size=rows.shape[1],
            smallest=16,
        )
        count = into.count.numpy()
        for labels, sign in ((old[changed], -1), (new[changed], 1)):
            count += sign * np.bincount(labels[labels >= 0], minlength=len(count))
        return len(changed)

    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> sphere.Outcome:
        return sphere.outcome(sums.direction, sums.count, previous, total, int(changed), int(settled))

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        out = torch.empty(len(batch), dtype=torch.float64)
        rows = _unit(batch, slice(None))
        spread(kernels.own_scores, rows, centroids.numpy(), labels.numpy(), out.numpy(), size=len(out))
        return out

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        out = torch.empty((len(batch), len(centroids)), dtype=torch.float32)
        wide = centroids.to(torch.float64)
        error = batch.rows.shape[1] * 2.0**-52
        tile = max(_TILE_ROWS, _TILE_BYTES // (8 * len(centroids)))
        for start in range(0, len(batch), tile):
            rows = _unit(batch, slice(start, start + tile))
            products = (torch.from_numpy(rows).to(torch.float64) @ wide.T).numpy()
            spread(
                kernels.round_cosines,
                *(products, rows, centroids.numpy(), error, out[start : start + tile].numpy()),
                size=len(rows),
            )
        if batch.keep is not None:
            out[~batch.keep] = 0.0
        return out

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        rows = _unit(batch, slice(None))
        slack = sphere.screen_error(rows.shape[1])
        spread(kernels.improve, rows, centroid.numpy(), slack, best.numpy(), size=len(rows))

    def _product(self, distinct: np.ndarray) -> Gemm:
        """Chosen once per shape and fit: the check of its precision must be as fresh as the fit."""
        if distinct.shape not in self._gemm:
            self._gemm[distinct.shape] = choose_gemm(*distinct.shape)
        return self._gemm[distinct.shape]

    def _tile(self, rows: int, columns: int) -> np.ndarray:
        """Scores of one tile, in memory that is used again."""
        if self._scratch.size < rows * columns:
            self._scratch = np.empty(rows * columns, np.float32)
        return self._scratch[: rows * columns].reshape(rows, columns)


def first_of_equals(centroids: np.ndarray) -> np.ndarray:
    """Indices of the first of each group of bitwise equal centroids, ascending.

    Copies can't win against the first (ties go to the lowest index), and would leave every one of their rows
    uncertain.
    """
    content = np.ascontiguousarray(centroids).view(np.dtype((np.void, centroids.shape[1] * 4)))[:, 0]
    return np.sort(np.unique(content, return_index=True)[1])


def _float32(rows: Tensor) -> np.ndarray:
    """float32 rows with unit stride along D; a view where they are that already."""
    return rows.to(torch.float32).contiguous().numpy()


def _unit(batch: Batch, span: slice) -> np.ndarray:
    """Unit rows of a span (subnormal entries left in: only canonical scores see them, and they clean)."""
    rows = _float32(batch.rows[span])
    if batch.norms is None:
        return rows
    norms = batch.norms[span].numpy()
    out = np.empty_like(rows)
    spread(kernels.unit_rows, rows, norms, out, size=len(rows))
    return out


def _keep(batch: Batch, span: slice) -> np.ndarray:
    if batch.keep is None:
        return np.ones(len(batch.rows[span]), np.bool_)
    return batch.keep[span].numpy()


def _gathered(batch: Batch, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, norms and weights of the changed rows; the rows themselves, uncopied, where all changed."""
    everything = len(changed) == len(batch)
    index = torch.from_numpy(changed)

    def pick(values: Tensor) -> Tensor:
        return values if everything else values[index]

    ones = np.ones(len(changed))
    norms = ones if batch.norms is None else pick(batch.norms).numpy()
    weights = ones if batch.weights is None else pick(batch.weights).numpy()
    return _float32(pick(batch.rows)), norms, weights
