"""Settling: rows that the screen can't prove get the canonical score of every candidate (docs/gpu.md, section 3).

Meaning: `backends/reference.py`, `ReferenceBackend.assign`. Candidates are all centroids whose screened score
lies within 2 E of the best one; the list of pairs has a fixed room, and a row without room is compared with
every centroid.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.assign import Doubtful, certified_gap
from cosmeans.backends.gpu.canonical import load_unit, ordered, padded, place, tree_sum, warps
from cosmeans.backends.gpu.centroids import Quantised
from cosmeans.backends.gpu.rows import ROW_TILE
from cosmeans.data import Batch

_NO_WINNER = tl.constexpr(0x7FFFFFFF)
_NO_SCORE = tl.constexpr(-0x7FFFFFFFFFFFFFFF)
_LIST = tl.constexpr(32)  # doubtful rows screened together
_COLUMNS = tl.constexpr(128)
_PAIRS = tl.constexpr(1024)


class SettleSpace:
    """Memory for settling at most `capacity` rows at once, and for `room` pairs of a row and a candidate."""

    def __init__(self, capacity: int, room: int, device: torch.device) -> None:
        def empty(size: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(size, dtype=dtype, device=device)

        self.counters = torch.zeros(4, dtype=torch.int32, device=device)
        self.doubtful = Doubtful(empty(capacity, torch.int32), empty(capacity, torch.float32), self.counters[0:1])
        self.n_pairs, self.n_crowded = self.counters[1:2], self.counters[2:3]
        self.best = empty(capacity, torch.int64)
        self.winners = empty(capacity, torch.int32)
        self.overflow = empty(capacity, torch.int32)
        self.crowded = empty(capacity, torch.int32)
        self.pair_items = empty(room, torch.int32)
        self.pair_columns = empty(room, torch.int32)
        self.pair_scores = empty(room, torch.int64)
        self.room = room

    def bytes(self) -> int:
        """What the lists hold."""
        return sum(t.nbytes for t in (self.best, self.winners, self.overflow, self.crowded)) + 16 * self.room


@triton.jit(do_not_specialize=["start", "room"])
def _candidates(
    halves_ptr,
    residuals_ptr,
    columns_ptr,
    n_columns_ptr,
    bounds_ptr,
    list_ptr,
    list_scores_ptr,
    counters_ptr,
    best_ptr,
    winners_ptr,
    overflow_ptr,
    pair_items_ptr,
    pair_columns_ptr,
    start,
    width,
    room,
    accumulation,
    grid,
    column_tile,
    SWIZZLED: tl.constexpr,
):
    """Screen the listed rows once more and write every (row, column) within 2 E of the row's best."""
    n_listed = tl.load(counters_ptr)
    n_columns = tl.load(n_columns_ptr)
    depth = tl.arange(0, 64)
    for block in range(tl.program_id(0), tl.cdiv(n_listed, _LIST), tl.num_programs(0)):
        item = block * _LIST + tl.arange(0, _LIST)
        listed = item < n_listed
        row = start + tl.load(list_ptr + item, mask=listed, other=0).to(tl.int64)
        tl.store(best_ptr + item, _NO_SCORE, mask=listed)
        tl.store(winners_ptr + item, _NO_WINNER, mask=listed)
        residual = tl.load(residuals_ptr + row, mask=listed, other=0.0)
        floor = tl.load(list_scores_ptr + item, mask=listed, other=0.0)
        floor -= certified_gap(residual, bounds_ptr, accumulation, grid) * (1.0 + 2.0**-20) + 2.0**-23
        crowded = tl.zeros((_LIST,), tl.int32)
        for first in range(0, n_columns, _COLUMNS):
            column = first + tl.arange(0, _COLUMNS)
            scores = tl.zeros((_LIST, _COLUMNS), tl.float32)
            for step in range(0, width, 64):
                a = tl.load(halves_ptr + place(row[:, None], step + depth[None, :], width, ROW_TILE, SWIZZLED))
                wide = column.to(tl.int64)[None, :]
                b = tl.load(
                    columns_ptr + place(wide, step + depth[:, None], width, column_tile, SWIZZLED),
                    mask=(column < n_columns)[None, :],
                    other=0.0,
                )
                scores = tl.dot(a, b, scores)
            candidate = (scores < floor[:, None]) == 0  # NaN is a candidate
            candidate = candidate & (column < n_columns)[None, :] & listed[:, None]
            number = candidate.to(tl.int32)
            per_row = tl.sum(number, axis=1)
            total = tl.sum(per_row)
            if total > 0:
                base = tl.atomic_add(counters_ptr + 1, total)
                before = tl.cumsum(per_row, axis=0) - per_row
                at = base + before[:, None] + tl.cumsum(number, axis=1) - 1
                fits = candidate & (at < room)
                tl.store(pair_items_ptr + at, tl.where(fits, item[:, None], 0), mask=fits)
                tl.store(pair_columns_ptr + at, tl.where(fits, column[None, :], 0), mask=fits)
                crowded += tl.sum((candidate & (at >= room)).to(tl.int32), axis=1)
        tl.store(overflow_ptr + item, crowded, mask=listed)


@triton.jit(do_not_specialize=["room"])
def _score_pairs(
    rows_ptr,
    norms_ptr,
    centroids_ptr,
    original_ptr,
    list_ptr,
    counters_ptr,
    pair_items_ptr,
    pair_columns_ptr,
    pair_scores_ptr,
    best_ptr,
    stride,
    n_features,
    room,
    P: tl.constexpr,
    HAS_NORMS: tl.constexpr,
):
    feature = tl.arange(0, P)
    for pair in range(tl.program_id(0), tl.minimum(tl.load(counters_ptr + 1), room), tl.num_programs(0)):
        item = tl.load(pair_items_ptr + pair)
        row = tl.load(list_ptr + item).to(tl.int64)
        k = tl.load(original_ptr + tl.load(pair_columns_ptr + pair)).to(tl.int64)
        values = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS)
        centroid = tl.load(centroids_ptr + k * n_features + feature, mask=feature < n_features, other=0.0)
        score = ordered(tree_sum(values.to(tl.float64) * centroid.to(tl.float64), P) + 0.0)
        tl.store(pair_scores_ptr + pair, score)
        tl.atomic_max(best_ptr + item, score, sem="relaxed")


@triton.jit(do_not_specialize=["room"])
def _pick(counters_ptr, pair_items_ptr, pair_columns_ptr, pair_scores_ptr, best_ptr, original_ptr, winners_ptr, room):
    """The lowest centroid among those of the best score."""
    n_pairs = tl.minimum(tl.load(counters_ptr + 1), room)
    for block in range(tl.program_id(0), tl.cdiv(n_pairs, _PAIRS), tl.num_programs(0)):
        pair = block * _PAIRS + tl.arange(0, _PAIRS)
        inside = pair < n_pairs
        item = tl.load(pair_items_ptr + pair, mask=inside, other=0)
        score = tl.load(pair_scores_ptr + pair, mask=inside, other=0)
        wins = inside & (score == tl.load(best_ptr + item, mask=inside, other=0))
        column = tl.load(pair_columns_ptr + pair, mask=inside, other=0)
        k = tl.load(original_ptr + column, mask=inside, other=0)
        tl.atomic_min(winners_ptr + item, k, mask=wins, sem="relaxed")


@triton.jit
def _write_labels(counters_ptr, list_ptr, winners_ptr, overflow_ptr, crowded_ptr, labels_ptr):
    """Labels of the listed rows; those that found no room, or no candidate, go to the list of crowded rows."""
    n_listed = tl.load(counters_ptr)
    for block in range(tl.program_id(0), tl.cdiv(n_listed, _PAIRS), tl.num_programs(0)):
        item = block * _PAIRS + tl.arange(0, _PAIRS)
        listed = item < n_listed
        row = tl.load(list_ptr + item, mask=listed, other=0)
        winner = tl.load(winners_ptr + item, mask=listed, other=0)
        open_ = listed & ((tl.load(overflow_ptr + item, mask=listed, other=0) > 0) | (winner == _NO_WINNER))
        tl.store(labels_ptr + row, winner, mask=listed & (open_ == 0))
        number = open_.to(tl.int32)
        total = tl.sum(number)
        if total > 0:
            at = tl.atomic_add(counters_ptr + 2, total) + tl.cumsum(number, axis=0) - 1
            tl.store(crowded_ptr + at, row, mask=open_)


@triton.jit
def _score_all(
    rows_ptr,
    norms_ptr,
    centroids_ptr,
    original_ptr,
    n_columns_ptr,
    counters_ptr,
    crowded_ptr,
    labels_ptr,
    stride,
    n_features,
    P: tl.constexpr,
    HAS_NORMS: tl.constexpr,
):
    """Brute force for the crowded rows: slow, always right."""
    feature = tl.arange(0, P)
    n_columns = tl.load(n_columns_ptr)
    for at in range(tl.program_id(0), tl.load(counters_ptr + 2), tl.num_programs(0)):
        row = tl.load(crowded_ptr + at).to(tl.int64)
        wide = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS).to(tl.float64)
        best = tl.full((), float("-inf"), tl.float64)
        winner = 0
        for column in range(0, n_columns):
            k = tl.load(original_ptr + column).to(tl.int64)
            centroid = tl.load(centroids_ptr + k * n_features + feature, mask=feature < n_features, other=0.0)
            score = tree_sum(wide * centroid.to(tl.float64), P) + 0.0
            winner = tl.where(score > best, k.to(tl.int32), winner)
            best = tl.maximum(best, score)
        tl.store(labels_ptr + row, winner)


def settle(
    space: SettleSpace,
    halves: Tensor,
    residuals: Tensor,
    start: int,
    batch: Batch,
    centroids: Quantised,
    labels: Tensor,
    accumulation: float,
    grid: float,
    programs: int,
) -> None:
    """Overwrite the labels of the listed rows with their canonical ones. No number is read by the host."""
    rows, d, listed = batch.rows, batch.rows.shape[1], space.doubtful
    size = padded(d)
    has_norms = batch.norms is not None
    norms = rows if batch.norms is None else batch.norms
    shape = {"P": size, "HAS_NORMS": has_norms, "num_warps": warps(size)}
    _candidates[(programs,)](
        *(halves, residuals, centroids.halves, centroids.n_columns, centroids.bounds),
        *(listed.rows, listed.scores, space.counters, space.best, space.winners, space.overflow),
        *(space.pair_items, space.pair_columns, start, centroids.width, space.room, accumulation, grid, centroids.tile),
        SWIZZLED=centroids.tile > 0,
        num_warps=4,
    )
    _score_pairs[(8 * programs,)](
        *(rows, norms, centroids.centroids, centroids.original, listed.rows, space.counters),
        *(space.pair_items, space.pair_columns, space.pair_scores, space.best, rows.stride(0), d, space.room),
        **shape,
    )
    _pick[(programs,)](
        *(space.counters, space.pair_items, space.pair_columns, space.pair_scores),
        *(space.best, centroids.original, space.winners, space.room),
        num_warps=4,
    )
    _write_labels[(programs,)](
        *(space.counters, listed.rows, space.winners, space.overflow, space.crowded, labels), num_warps=4
    )
    _score_all[(8 * programs,)](
        *(rows, norms, centroids.centroids, centroids.original, centroids.n_columns),
        *(space.counters, space.crowded, labels, rows.stride(0), d),
        **shape,
    )
