"""The centroids that follow from the sums, and the metrics of an epoch. Meaning: `epoch.outcome`.

An update writes to an output ring: to its only slot, or, where epochs are replayed as a CUDA graph, to the slots one
after another. The number of updates so far is then a number on the device, since a graph starts the same kernels with
the same arguments every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.exact import divisor, padded, rounded_sums, tree_sum, unit_row, warps_for
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import ClusterSums
from cosmeans.epoch import EpochStats


@triton.jit(do_not_specialize=["n_clusters"])
def _update(
    direction_ptr,
    previous_ptr,
    updated_ptr,
    degenerate_ptr,
    start_ptr,
    n_updates_ptr,
    terms_ptr,
    chords_ptr,
    moved_ptr,
    n_clusters,
    n_features,
    P: tl.constexpr,
    SLOTS: tl.constexpr,
):
    """Rule 5 for one cluster. terms: its term of the mean similarity; chords: the square of how far it moved.

    `start` may be `previous`: a program writes its row last, and no other one reads it.
    """
    k = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    mask = feature < n_features
    direction = tl.load(direction_ptr + k * n_features + feature, mask=mask, other=0)
    previous = tl.load(previous_ptr + k * n_features + feature, mask=mask, other=0.0)
    sums = rounded_sums(direction)
    wide = sums.to(tl.float64)
    norm = divisor(tree_sum(wide * wide, P))
    degenerate = tl.sum((direction != 0).to(tl.int32)) == 0
    updated = tl.where(degenerate, previous, unit_row(sums, norm))
    target = k
    if SLOTS > 1:
        target += tl.load(n_updates_ptr) % SLOTS * n_clusters
    tl.store(updated_ptr + target * n_features + feature, updated, mask=mask)
    tl.store(degenerate_ptr + target, degenerate)
    tl.store(terms_ptr + k, tree_sum(wide * previous.to(tl.float64), P))
    difference = (updated - previous).to(tl.float64)
    tl.store(chords_ptr + k, tree_sum(difference * difference, P))
    tl.store(moved_ptr + k, tl.sum((updated != previous).to(tl.int32)))
    if SLOTS > 1:
        tl.store(start_ptr + k * n_features + feature, updated, mask=mask)


_BLOCK = tl.constexpr(512)  # clusters that the program reads at once
_METRICS = tl.constexpr(len(EpochStats.names()))


@triton.jit(do_not_specialize=["n_clusters", "half"])
def _metrics(
    terms_ptr,
    chords_ptr,
    moved_ptr,
    degenerate_ptr,
    count_ptr,
    total_ptr,
    changed_ptr,
    settled_ptr,
    out_ptr,
    n_updates_ptr,
    n_clusters,
    half,
    SLOTS: tl.constexpr,
):
    """One program: the metrics of an epoch, in the order of `epoch.EpochStats`. Folds `terms` in place (eq. 1).

    Counts the update, so that the next one writes to the next slot.
    """
    if SLOTS > 1:
        n_updates = tl.load(n_updates_ptr)
        degenerate_ptr += n_updates % SLOTS * n_clusters
        out_ptr += n_updates % SLOTS * _METRICS
        tl.store(n_updates_ptr, n_updates + 1)
    lane = tl.arange(0, _BLOCK)
    while half >= _BLOCK:
        for start in range(0, half, _BLOCK):
            k = start + lane
            partner = tl.load(terms_ptr + half + k, mask=half + k < n_clusters, other=0.0)
            tl.store(terms_ptr + k, tl.load(terms_ptr + k) + partner)
        tl.debug_barrier()
        half = half // 2
    similarity = tree_sum(tl.load(terms_ptr + lane, mask=lane < n_clusters, other=0.0), _BLOCK)
    zero = tl.full((), 0.0, tl.float64)
    chord, squares, rows, largest, empty, degenerate, moved = zero, zero, zero, zero, 0, 0, 0
    for start in range(0, n_clusters, _BLOCK):
        k = start + lane
        inside = k < n_clusters
        chord = tl.maximum(chord, tl.max(tl.load(chords_ptr + k, mask=inside, other=0.0)))
        count = tl.load(count_ptr + k, mask=inside, other=0).to(tl.float64)
        squares += tl.sum(count * count)
        rows += tl.sum(count)
        largest = tl.maximum(largest, tl.max(count))
        empty += tl.sum((inside & (count == 0)).to(tl.int32))
        degenerate += tl.sum(tl.load(degenerate_ptr + k, mask=inside, other=0).to(tl.int32))
        moved += tl.sum(tl.load(moved_ptr + k, mask=inside, other=0))
    tl.store(out_ptr, similarity / tl.load(total_ptr))
    tl.store(out_ptr + 1, chord)
    tl.store(out_ptr + 2, squares)
    tl.store(out_ptr + 3, rows)
    tl.store(out_ptr + 4, largest)
    tl.store(out_ptr + 5, empty.to(tl.float64))  # type: ignore[attr-defined]
    tl.store(out_ptr + 6, degenerate.to(tl.float64))  # type: ignore[attr-defined]
    tl.store(out_ptr + 7, (moved > 0).to(tl.float64))  # type: ignore[attr-defined]
    tl.store(out_ptr + 8, tl.load(changed_ptr).to(tl.float64))
    tl.store(out_ptr + 9, tl.load(settled_ptr).to(tl.float64))


@dataclass(frozen=True, slots=True)
class OutputRing:
    """The output ring of updates, of one slot or of R.

    centroids  (R, K, D) float32
    degenerate (R, K) bool: degenerate clusters, whose centroids stay
    metrics    (R, 10) float64, the metrics; of several slots: in pinned host memory, where the device writes them
    start      (K, D) float32: what the next epoch starts from, also written; one slot: not used
    n_updates  (1,) int64: updates so far; one slot: not used
    """

    centroids: Tensor
    degenerate: Tensor
    metrics: Tensor
    start: Tensor
    n_updates: Tensor

    @classmethod
    def single(cls, like: Tensor) -> OutputRing:
        """One slot for centroids of this shape, dtype and device."""
        centroids = torch.empty((1, *like.shape), dtype=like.dtype, device=like.device)
        degenerate = torch.empty((1, len(like)), dtype=torch.bool, device=like.device)
        metrics = torch.empty((1, _METRICS.value), dtype=torch.float64, device=like.device)
        return cls(centroids, degenerate, metrics, centroids, centroids)

    @classmethod
    def ring(cls, n_slots: int, k: int, d: int, n_updates: Tensor) -> OutputRing:
        """Several slots for centroids (k, d) on the device of `n_updates`."""
        device, pinned = n_updates.device, n_updates.device.type == "cuda"
        centroids = torch.empty((n_slots, k, d), dtype=torch.float32, device=device)
        degenerate = torch.empty((n_slots, k), dtype=torch.bool, device=device)
        metrics = torch.empty((n_slots, _METRICS.value), dtype=torch.float64, device="cpu", pin_memory=pinned)
        start = torch.empty((k, d), dtype=torch.float32, device=device)
        return cls(centroids, degenerate, metrics, start, n_updates)


class UpdateWorkspace:
    """Memory for the update: what a cluster adds to the metrics. Made once per fit."""

    def __init__(self, n_clusters: int, device: torch.device) -> None:
        self.terms = torch.empty(n_clusters, dtype=torch.float64, device=device)
        self.chords = torch.empty(n_clusters, dtype=torch.float64, device=device)
        self.moved = torch.empty(n_clusters, dtype=torch.int32, device=device)

    def update(self, sums: ClusterSums, previous: Tensor, ring: OutputRing) -> None:
        """Rule 5, into the slot whose turn it is."""
        k, d = previous.shape
        size = padded(d)
        launch(
            _update,
            k,
            *(sums.direction, previous, ring.centroids, ring.degenerate, ring.start, ring.n_updates),
            *(self.terms, self.chords, self.moved, k, d),
            P=size,
            SLOTS=len(ring.centroids),
            num_warps=warps_for(size),
        )

    def metrics(self, count: Tensor, total: Tensor, changed: Tensor, settled: Tensor, ring: OutputRing) -> None:
        """The metrics of the epoch that was updated, into its slot; then it is the turn of the next slot.

        count    (K,) int64, of the sums
        total    (1,) float64: the weight of all rows, in the fixed point of the sums
        changed  (1,) int32 or int64: rows that changed cluster
        settled  (1,) int32 or int64: rows that were refined
        """
        k = len(count)
        launch(
            _metrics,
            1,
            *(self.terms, self.chords, self.moved, ring.degenerate, count, total, changed, settled),
            *(ring.metrics, ring.n_updates, k, padded(k) // 2),
            SLOTS=len(ring.centroids),
            num_warps=2 if k <= _BLOCK.value else 8,  # reductions take less time in few warps
        )
