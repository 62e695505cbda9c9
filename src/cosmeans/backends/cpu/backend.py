"""Assign and accumulate on the CPU; `backends/reference.py` is the meaning of every function here."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.cpu import canonical, kernels
from cosmeans.backends.cpu.passes import Pass, Strategies
from cosmeans.backends.cpu.threads import spread
from cosmeans.backends.cpu.tiles import assign_blocks, check_labels, float32_rows, pieces, unit_rows
from cosmeans.contracts import RowSource
from cosmeans.data import Assignment, Batch, ClusterSums

_TILE_BYTES = 8 << 20  # float64 products held at once
_TILE_ROWS = 64  # fewer rows make a product slow, however many centroids
_MOVED_ROWS = 1 << 17  # whose labels are compared at once


class CpuBackend:
    """Screens blocks of rows with cheap products, proves most labels, settles the rest (docs/algorithm.md, 3).

    strategy      "auto" chooses before every pass from a sample; the other names force one (docs/cpu.md)
    memory_limit  bytes that may be kept of the rows between passes; None: 128 MiB or, if
                  more, a quarter of their size less 600 MiB, if twice as much is free
    """

    name = "cpu"
    lookahead = 0

    def __init__(self, strategy: str = "auto", memory_limit: int | None = None) -> None:
        self.device = torch.device("cpu")
        self._strategies = Strategies(strategy, memory_limit)

    def squared_norms(self, rows: Tensor) -> Tensor:
        out = torch.empty(rows.shape[0], dtype=torch.float64, device="cpu")
        for span in pieces(rows):
            part = float32_rows(rows[span])
            spread(kernels.squared_norms, part, out[span].numpy(), size=len(part))
        return out

    def lengths(self, squared: Tensor) -> sphere.Lengths:
        return sphere.lengths(squared)

    def begin(self, rows: RowSource) -> None:
        self._strategies.begin(rows)

    def prepare(self, centroids: Tensor) -> Pass:
        return self._strategies.next_pass(np.ascontiguousarray(centroids.numpy()))

    def assign(self, batch: Batch, prepared: Pass, before: Tensor) -> Assignment:
        labels = torch.empty(len(batch), dtype=torch.int32, device="cpu")
        settled, work = assign_blocks(batch, prepared, before.numpy(), labels.numpy())
        return Assignment(labels, settled, work)

    def accumulate(self, batch: Batch, before: Tensor, after: Tensor, into: ClusterSums) -> int:
        old, new = before.numpy(), after.numpy()
        moved = 0
        for start in range(0, len(old), _MOVED_ROWS):
            changed = np.flatnonzero(old[start : start + _MOVED_ROWS] != new[start : start + _MOVED_ROWS]) + start
            if len(changed):
                for labels in (old[changed], new[changed]):
                    check_labels(labels, len(into.count))
                _move(batch, changed, old, new, into)
                old[changed] = new[changed]
                moved += len(changed)
        return moved

    def update(
        self, sums: ClusterSums, previous: Tensor, total: int, changed: int | Tensor, settled: int | Tensor
    ) -> sphere.Outcome:
        centroids, lost = torch.empty_like(previous), torch.empty(len(previous), dtype=torch.bool, device="cpu")
        own, shift = torch.empty((2, len(previous)), dtype=torch.float64, device="cpu")
        spread(
            kernels.update,
            *(sums.direction.numpy(), previous.numpy(), centroids.numpy(), lost.numpy(), own.numpy(), shift.numpy()),
            size=len(previous),
        )
        update = sphere.Update(centroids, lost)
        similarity = float(sphere.mean_of(own, total))
        return sphere.finished(update, previous, similarity, float(shift.max()), sums.count, int(changed), int(settled))

    def scores(self, batch: Batch, centroids: Tensor, labels: Tensor) -> Tensor:
        out = torch.empty(len(batch), dtype=torch.float64, device="cpu")
        check_labels(labels.numpy(), len(centroids))
        ordered = canonical.ordered(centroids.numpy())
        for span in pieces(batch.rows, batch.norms):
            rows = unit_rows(batch, span)
            spread(kernels.own_scores, rows, ordered, labels[span].numpy(), out[span].numpy(), size=len(rows))
        return out

    def chords(self, batch: Batch, centroids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores, squared = torch.empty((2, len(batch)), dtype=torch.float64, device="cpu")
        check_labels(labels.numpy(), len(centroids))
        plain, ordered = centroids.numpy(), canonical.ordered(centroids.numpy())
        for span in pieces(batch.rows, batch.norms):
            rows = unit_rows(batch, span)
            given = (rows, ordered, plain, labels[span].numpy(), scores[span].numpy(), squared[span].numpy())
            spread(kernels.own_chords, *given, size=len(rows))
        return scores, squared

    def inertia_limbs(self, squared: Tensor, weights: Tensor | None) -> Tensor:
        return sphere.inertia_limbs(squared, weights)

    def cosines(self, batch: Batch, centroids: Tensor) -> Tensor:
        out = torch.empty((len(batch), len(centroids)), dtype=torch.float32, device="cpu")
        wide, ordered = centroids.to(torch.float64), canonical.ordered(centroids.numpy())
        error = batch.rows.shape[1] * 2.0**-52
        tile = max(_TILE_ROWS, _TILE_BYTES // (8 * max(centroids.shape)))
        for start in range(0, len(batch), tile):
            rows = unit_rows(batch, slice(start, start + tile))
            products = (torch.from_numpy(rows).to(torch.float64) @ wide.T).numpy()
            spread(
                kernels.round_cosines,
                *(products, rows, ordered, error, out[start : start + tile].numpy()),
                size=len(rows),
            )
        if batch.keep is not None:
            out[~batch.keep] = 0.0
        return out

    def improve(self, batch: Batch, centroid: Tensor, best: Tensor) -> None:
        slack = sphere.screen_error(batch.rows.shape[1])
        ordered = canonical.ordered(centroid.numpy()[None])[0]
        for span in pieces(batch.rows, batch.norms):
            rows = unit_rows(batch, span)
            spread(kernels.improve, rows, centroid.numpy(), ordered, slack, best[span].numpy(), size=len(rows))


def _move(batch: Batch, changed: np.ndarray, old: np.ndarray, new: np.ndarray, into: ClusterSums) -> None:
    """Take some rows of a batch out of the sums of their old labels and add them to those of their new ones."""
    spans = pieces(batch.rows) if len(changed) > _TILE_ROWS else [slice(0, len(batch))]
    for span in spans:
        first, last = np.searchsorted(changed, (span.start, span.stop))
        if first == last:
            continue
        part = changed[first:last]
        rows, at, norms, weights = _changed_rows(batch, part)
        spread(
            kernels.move,
            *(rows, at, norms, weights, part, old, new, into.scale, into.direction.numpy()),
            size=rows.shape[1],
            smallest=16,
        )
    count = into.count.numpy()
    for labels, sign in ((old[changed], -1), (new[changed], 1)):
        count += sign * np.bincount(labels[labels >= 0], minlength=len(count))


def _changed_rows(batch: Batch, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """float32 rows, where the changed ones stand among them, their norms and weights. Copies nothing it needn't."""
    index = torch.from_numpy(changed)
    rows, at = batch.rows, changed
    if rows.dtype is not torch.float32 or not rows.is_contiguous():
        rows, at = rows[index], np.arange(len(changed))
    ones = np.ones(len(changed))
    norms = ones if batch.norms is None else batch.norms[index].numpy()
    weights = ones if batch.weights is None else batch.weights[index].numpy()
    return float32_rows(rows), at, norms, weights
