"""The centroids that follow the sums, and the figures of an epoch. Meaning: `sphere.outcome`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans import sphere
from cosmeans.backends.gpu.kernels.exact import divisor, padded, rounded_sums, tree_sum, unit, warps
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.data import ClusterSums


@triton.jit
def _turn(turn_ptr, PLACES: tl.constexpr):
    """The place whose turn it is, int64."""
    return tl.load(turn_ptr) % PLACES


@triton.jit(do_not_specialize=["n_clusters"])
def _update(
    direction_ptr,
    previous_ptr,
    updated_ptr,
    lost_ptr,
    start_ptr,
    turn_ptr,
    own_ptr,
    chords_ptr,
    moved_ptr,
    n_clusters,
    n_features,
    P: tl.constexpr,
    PLACES: tl.constexpr,
):
    """Rule 5 for one cluster; `own` is its term of the similarity, `chords` its squared movement.

    `start` may be `previous`: a program writes there last, and no other one reads its row.
    """
    k = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, P)
    mask = feature < n_features
    direction = tl.load(direction_ptr + k * n_features + feature, mask=mask, other=0)
    previous = tl.load(previous_ptr + k * n_features + feature, mask=mask, other=0.0)
    sums = rounded_sums(direction)
    wide = sums.to(tl.float64)
    norm = divisor(tree_sum(wide * wide, P))
    lost = tl.sum((direction != 0).to(tl.int32)) == 0
    updated = tl.where(lost, previous, unit(sums, norm))
    target = k
    if PLACES > 1:
        target += _turn(turn_ptr, PLACES) * n_clusters
    tl.store(updated_ptr + target * n_features + feature, updated, mask=mask)
    tl.store(lost_ptr + target, lost)
    tl.store(own_ptr + k, tree_sum(wide * previous.to(tl.float64), P))
    difference = (updated - previous).to(tl.float64)
    tl.store(chords_ptr + k, tree_sum(difference * difference, P))
    tl.store(moved_ptr + k, tl.sum((updated != previous).to(tl.int32)))
    if PLACES > 1:
        tl.store(start_ptr + k * n_features + feature, updated, mask=mask)


_FOLD = tl.constexpr(512)
_FIGURES = tl.constexpr(len(sphere.Figures.names()))


@triton.jit(do_not_specialize=["n_clusters", "half"])
def _figures(
    own_ptr,
    chords_ptr,
    moved_ptr,
    lost_ptr,
    count_ptr,
    total_ptr,
    changed_ptr,
    settled_ptr,
    out_ptr,
    turn_ptr,
    n_clusters,
    half,
    PLACES: tl.constexpr,
):
    """One program: the figures of an epoch, in the order of `sphere.Figures`. Folds `own` in place (eq. 1).

    The next epoch then has the next turn.
    """
    if PLACES > 1:
        turn = tl.load(turn_ptr)
        lost_ptr += turn % PLACES * n_clusters
        out_ptr += turn % PLACES * _FIGURES
        tl.store(turn_ptr, turn + 1)
    lane = tl.arange(0, _FOLD)
    while half >= _FOLD:
        for start in range(0, half, _FOLD):
            k = start + lane
            partner = tl.load(own_ptr + half + k, mask=half + k < n_clusters, other=0.0)
            tl.store(own_ptr + k, tl.load(own_ptr + k) + partner)
        tl.debug_barrier()
        half = half // 2
    own = tree_sum(tl.load(own_ptr + lane, mask=lane < n_clusters, other=0.0), _FOLD)
    zero = tl.full((), 0.0, tl.float64)
    chord, squares, rows, largest, empty, lost, moved = zero, zero, zero, zero, 0, 0, 0
    for start in range(0, n_clusters, _FOLD):
        k = start + lane
        inside = k < n_clusters
        chord = tl.maximum(chord, tl.max(tl.load(chords_ptr + k, mask=inside, other=0.0)))
        count = tl.load(count_ptr + k, mask=inside, other=0).to(tl.float64)
        squares += tl.sum(count * count)
        rows += tl.sum(count)
        largest = tl.maximum(largest, tl.max(count))
        empty += tl.sum((inside & (count == 0)).to(tl.int32))
        lost += tl.sum(tl.load(lost_ptr + k, mask=inside, other=0).to(tl.int32))
        moved += tl.sum(tl.load(moved_ptr + k, mask=inside, other=0))
    tl.store(out_ptr, own / tl.load(total_ptr))
    tl.store(out_ptr + 1, chord)
    tl.store(out_ptr + 2, squares)
    tl.store(out_ptr + 3, rows)
    tl.store(out_ptr + 4, largest)
    tl.store(out_ptr + 5, empty.to(tl.float64))
    tl.store(out_ptr + 6, lost.to(tl.float64))
    tl.store(out_ptr + 7, (moved > 0).to(tl.float64))
    tl.store(out_ptr + 8, tl.load(changed_ptr).to(tl.float64))
    tl.store(out_ptr + 9, tl.load(settled_ptr).to(tl.float64))


@dataclass(frozen=True, slots=True)
class Places:
    """Where updates leave their outcomes: in the first place, or in each in turn.

    centroids  (R, K, D) float32
    lost       (R, K) bool
    figures    (R, 10) float64; in turn: on the host, where the device writes them itself
    start      (K, D) float32, written too: what the next epoch starts from; one place: not used
    turn       (1,) int64: updates so far; one place: not used
    """

    centroids: Tensor
    lost: Tensor
    figures: Tensor
    start: Tensor
    turn: Tensor

    @classmethod
    def one(cls, like: Tensor) -> Places:
        centroids = torch.empty((1, *like.shape), dtype=like.dtype, device=like.device)
        lost = torch.empty((1, len(like)), dtype=torch.bool, device=like.device)
        figures = torch.empty((1, _FIGURES.value), dtype=torch.float64, device=like.device)
        return cls(centroids, lost, figures, centroids, centroids)

    @classmethod
    def in_turn(cls, n_places: int, k: int, d: int, turn: Tensor) -> Places:
        device, pinned = turn.device, turn.device.type == "cuda"
        centroids = torch.empty((n_places, k, d), dtype=torch.float32, device=device)
        lost = torch.empty((n_places, k), dtype=torch.bool, device=device)
        figures = torch.empty((n_places, _FIGURES.value), dtype=torch.float64, device="cpu", pin_memory=pinned)
        start = torch.empty((k, d), dtype=torch.float32, device=device)
        return cls(centroids, lost, figures, start, turn)


class UpdateSpace:
    """Memory for the update; made once per fit."""

    def __init__(self, n_clusters: int, device: torch.device) -> None:
        self.own = torch.empty(n_clusters, dtype=torch.float64, device=device)
        self.chords = torch.empty(n_clusters, dtype=torch.float64, device=device)
        self.moved = torch.empty(n_clusters, dtype=torch.int32, device=device)

    def update(self, sums: ClusterSums, previous: Tensor, places: Places) -> None:
        """Rule 5, into the place whose turn it is."""
        k, d = previous.shape
        size, n_places = padded(d), len(places.centroids)
        launch(
            _update,
            k,
            *(sums.direction, previous, places.centroids, places.lost, places.start, places.turn),
            *(self.own, self.chords, self.moved, k, d),
            P=size,
            PLACES=n_places,
            num_warps=warps(size),
        )

    def figures(self, count: Tensor, total: Tensor, changed: Tensor, settled: Tensor, places: Places) -> None:
        """The figures of the epoch that was updated, into its place; the next one then has its turn.

        count (K,) int64, of the sums; total (1,) float64; changed and settled (1,) int32 or int64
        """
        k = len(count)
        launch(
            _figures,
            1,
            *(self.own, self.chords, self.moved, places.lost, count, total, changed, settled),
            *(places.figures, places.turn, k, padded(k) // 2),
            PLACES=len(places.centroids),
            num_warps=2 if k <= _FOLD.value else 8,  # reductions within few warps take less time
        )
