"""Refining: rows that the screen can't certify get the canonical score of every candidate (docs/design-gpu.md).

Meaning: `backends/reference.py`, `ReferenceBackend.assign`. Candidates are all centroids whose screened score is within
2 E of the best one. Where the screen has found that there are only two, these are compared at once; other rows are
screened again. A row with more candidates than a list holds is compared with every centroid.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.exact import ENTRIES_TO_MULTIPLY, load_unit, padded, tile_offset, tree_sum, warps_for
from cosmeans.backends.gpu.kernels.launch import launch
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.screen import Errors, Uncertified, certified_gap
from cosmeans.data import Batch

_ROWS = tl.constexpr(64)  # listed rows that are screened together
_COLUMNS = tl.constexpr(128)  # columns that they are screened against at once
_CANDIDATES = tl.constexpr(16)  # of a row that are listed


class RefineWorkspace:
    """Memory for refining a batch of at most `capacity` rows.

    uncertified   the rows that the screen can't certify
    n_candidates  (capacity,) int32: of each listed row, 0 between passes
    candidates    (16 * capacity,) int32: their columns
    n_settled     (1,) int32: rows that were refined
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        def empty(size: int) -> Tensor:
            return torch.empty(size, dtype=torch.int32, device=device)

        self.uncertified = Uncertified.empty(capacity, device)
        self.n_candidates = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.candidates = empty(capacity * _CANDIDATES.value)
        self.n_refined = empty(1)


@triton.jit(do_not_specialize=["start"])
def _candidates(
    values_ptr,
    residuals_ptr,
    scales_ptr,
    columns_ptr,
    n_columns_ptr,
    bounds_ptr,
    list_ptr,
    list_scores_ptr,
    counts_ptr,
    candidates_ptr,
    n_candidates_ptr,
    start,
    width,
    accumulation,
    rounding,
    ROW_TILE: tl.constexpr,
    COLUMN_TILE: tl.constexpr,
):
    """Screen the listed rows once more and note every column within 2 E of a row's best.

    Where few rows are listed, several programs divide the columns among them.
    """
    n_listed = tl.load(counts_ptr)
    n_columns = tl.load(n_columns_ptr)
    depth = tl.arange(0, 64)
    blocks, tiles = tl.cdiv(n_listed, _ROWS), tl.cdiv(n_columns, _COLUMNS)
    shares = tl.minimum(tl.cdiv(tl.num_programs(0), tl.maximum(blocks, 1)), tl.maximum(tiles, 1))
    span = tl.cdiv(tiles, shares) * _COLUMNS
    for task in range(tl.program_id(0), blocks * shares, tl.num_programs(0)):
        item = task // shares * _ROWS + tl.arange(0, _ROWS)
        listed = item < n_listed
        row = start + tl.load(list_ptr + item, mask=listed, other=0).to(tl.int64)
        residual = tl.load(residuals_ptr + row, mask=listed, other=0.0)
        unit = tl.load(scales_ptr + row, mask=listed, other=0.0)
        floor = tl.load(list_scores_ptr + item, mask=listed, other=0.0)
        floor -= certified_gap(residual, bounds_ptr, accumulation, rounding) * (1.0 + 2.0**-20) + 2.0**-22
        a_ptr = values_ptr + tile_offset(row[:, None], depth[None, :], width, ROW_TILE, 8)
        begin = task % shares * span
        for first in range(begin, tl.minimum(begin + span, n_columns), _COLUMNS):
            column = first + tl.arange(0, _COLUMNS)
            b_ptr = columns_ptr + tile_offset(column.to(tl.int64)[:, None], depth[None, :], width, COLUMN_TILE, 8)
            sums = tl.zeros((_ROWS, _COLUMNS), tl.float32)
            for step in range(0, width, 64):
                step_a, step_b = a_ptr + step, b_ptr + step
                if ROW_TILE > 0:  # chunks of 16 bytes are contiguous, which the compiler can't see
                    step_a = tl.max_contiguous(tl.multiple_of(a_ptr + step * ROW_TILE, (1, 16)), (1, 8))
                    step_b = tl.max_contiguous(tl.multiple_of(b_ptr + step * COLUMN_TILE, (1, 16)), (1, 8))
                a = tl.load(step_a)
                b = tl.load(step_b, mask=(column < n_columns)[:, None], other=0)
                sums = tl.dot(a, tl.trans(b), sums)
            scores = sums.to(tl.float32) * unit[:, None]
            # written so that NaN is a candidate
            number = ((scores < floor[:, None]) == 0) & (column < n_columns)[None, :] & listed[:, None]
            number = number.to(tl.int32)
            per_row = tl.sum(number, axis=1)
            if tl.max(per_row) > 0:
                found = tl.atomic_add(n_candidates_ptr + item, per_row, mask=per_row > 0, sem="relaxed")
                slot = found[:, None] + tl.cumsum(number, axis=1) - 1
                target = candidates_ptr + item.to(tl.int64)[:, None] * _CANDIDATES + slot
                fits = (number > 0) & (slot < _CANDIDATES)
                tl.store(target, tl.where(fits, column[None, :], 0), mask=fits)


@triton.jit
def _refine(
    rows_ptr,
    norms_ptr,
    centroids_ptr,
    original_ptr,
    n_columns_ptr,
    list_ptr,
    pairs_ptr,
    pair_clusters_ptr,
    counts_ptr,
    candidates_ptr,
    n_candidates_ptr,
    labels_ptr,
    n_refined_ptr,
    scaled_ptr,
    stride,
    n_features,
    P: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    ASKS: tl.constexpr,
):
    """The candidate of the largest canonical score, the lowest of equals. ASKS: only where `scaled` says HAS_NORMS."""
    if ASKS:
        scaled = tl.load(scaled_ptr) != 0
        if scaled != HAS_NORMS:
            return
    feature = tl.arange(0, P)
    n_listed, n_pairs = tl.load(counts_ptr), tl.load(counts_ptr + 1)
    if tl.program_id(0) == 0:
        tl.store(n_refined_ptr, n_listed + n_pairs)
    for item in range(tl.program_id(0), n_listed + n_pairs, tl.num_programs(0)):
        wide_item = tl.zeros((), tl.int64) + item
        number, all_columns = tl.full((), 2, tl.int32), item < 0
        if item < n_pairs:
            row = tl.load(pairs_ptr + item).to(tl.int64)
            columns_ptr = pair_clusters_ptr + wide_item * 2
        else:
            row = tl.load(list_ptr + item - n_pairs).to(tl.int64)
            columns_ptr = candidates_ptr + (wide_item - n_pairs) * _CANDIDATES
            number = tl.atomic_xchg(n_candidates_ptr + item - n_pairs, 0, sem="relaxed")  # all warps get the same
            all_columns = (number > _CANDIDATES) | (number == 0)
            if all_columns:
                number = tl.load(n_columns_ptr)
        row_values = load_unit(rows_ptr, norms_ptr, row, stride, n_features, P, HAS_NORMS).to(tl.float64)
        best = tl.full((), float("-inf"), tl.float64)
        winner = 0
        for i in range(0, number):
            k = i
            if not all_columns:
                k = tl.load(columns_ptr + i)
            if item >= n_pairs:
                k = tl.load(original_ptr + k)
            index = k.to(tl.int64) * n_features + feature  # type: ignore[attr-defined]
            centroid = tl.load(centroids_ptr + index, mask=feature < n_features, other=0.0)
            score = tree_sum(row_values * centroid.to(tl.float64), P) + 0.0
            # candidates are in any order where programs divided the columns
            winner = tl.where((score > best) | ((score == best) & (k < winner)), k, winner)
            best = tl.maximum(best, score)
        tl.store(labels_ptr + row, winner)


def refine(
    space: RefineWorkspace,
    copy: QuantizedRows,
    start: int,
    batch: Batch,
    centroids: QuantizedCentroids,
    labels: Tensor,
    errors: Errors,
    programs: int,
    scaled: Tensor | None = None,
) -> None:
    """Overwrite the labels of the listed rows with their canonical ones; `space.n_refined` counts them.

    Nothing waits for the device.

    copy, start  what was screened, and where in it the batch begins
    errors       of the screen
    programs     multiprocessors
    scaled       int32 on the device, not 0 if a norm of the batch is not 1; None: if it has norms, any may be
    """
    rows, d, listed = batch.rows, batch.rows.shape[1], space.uncertified
    size = padded(d)
    launch(
        _candidates,
        4 * programs,  # each of few warps, since rows are few: on an H100 0.37 ms a fit, 0.5 with twice the warps
        *(copy.values, copy.residuals, copy.scales, centroids.values, centroids.n_columns, centroids.bounds),
        *(listed.rows, listed.scores, listed.counts, space.candidates, space.n_candidates),
        *(start, centroids.width, errors.accumulation, errors.rounding),
        ROW_TILE=copy.tile,
        COLUMN_TILE=centroids.tile,
        num_warps=4,
        num_stages=3,
    )
    # A kernel that can't divide takes less time. Where it is not known here whether rows are divided, both are started.
    for has_norms in (batch.norms is not None,) if scaled is None else (False, True):
        launch(
            _refine,
            max(1, min(32 * programs, len(batch))),  # bound by memory latency: as many as a multiprocessor holds
            *(rows, rows if batch.norms is None else batch.norms, centroids.centroids, centroids.original),
            *(centroids.n_columns, listed.rows, listed.pairs, listed.pair_clusters, listed.counts),
            *(space.candidates, space.n_candidates, labels, space.n_refined),
            *(listed.counts if scaled is None else scaled, rows.stride(0), d),
            P=size,
            HAS_NORMS=has_norms,
            ASKS=scaled is not None,
            num_warps=warps_for(size, ENTRIES_TO_MULTIPLY),
        )
